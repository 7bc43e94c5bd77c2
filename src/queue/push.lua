-- Adds ready tasks of one pool and wakes as many waiting workers.
-- KEYS: 1 ring (tenants by turn), 2 wake list, 3 epoch, 4 turn counter, 5 the prefix of the tenants' sets (with the hash tag)
-- ARGV: now in ms, then for each task: tenant, id, score
local now = ARGV[1]
local added = 0
for i = 2, #ARGV, 3 do
  local tenant, id, score = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  added = added + redis.call('ZADD', KEYS[5] .. tenant, score, id)
  -- a tenant that was not waiting queues up behind those who are: were it served next, one whose tasks come one
  -- after the other would starve them; one that waits keeps its turn
  if not redis.call('ZSCORE', KEYS[1], tenant) then
    redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[4]), tenant)
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
