-- Adds ready tasks of one pool and wakes as many waiting workers.
-- KEYS: 1 ring (tenants by turn), 2 wake list, 3 epoch, 4 the turn served last, 5 the prefix of the tenants' sets (with
--   the hash tag), 6 weights (tenants that have another than 1)
-- ARGV: 1 now in ms, 2 the step of a turn, then for each task: tenant, id, score, the tenant's weight
local now, step = ARGV[1], tonumber(ARGV[2])
local added = 0
local reached = tonumber(redis.call('GET', KEYS[4]) or '0')
local seen = {}
for i = 3, #ARGV, 4 do
  local tenant, id, score, weight = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  added = added + redis.call('ZADD', KEYS[5] .. tenant, score, id)
  if not seen[tenant] then
    seen[tenant] = true
    if weight == '1' then
      redis.call('HDEL', KEYS[6], tenant)
    else
      redis.call('HSET', KEYS[6], tenant, weight)
    end
    -- a tenant that was not waiting queues up behind those who are: were it served next, one whose tasks come one
    -- after the other would starve them; one that waits keeps its turn
    local turn = reached + math.max(1, math.floor(step / tonumber(weight)))
    redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', turn), tenant)
  end
end
redis.call('SET', KEYS[3], now, 'NX')
local wake = math.min(added, 64) - redis.call('LLEN', KEYS[2])
for _ = 1, wake do
  redis.call('RPUSH', KEYS[2], '1')
end
if wake > 0 then
  redis.call('PEXPIRE', KEYS[2], 10000)
end
return added
