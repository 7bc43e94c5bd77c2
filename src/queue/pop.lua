-- Takes at most ARGV[2] tasks of one pool, tenants in turn, each its share; bounded by that number.
-- KEYS: 1 ring, 2 popped (id -> when), 3 popped homes (id -> "score tenant"), 4 turn counter, 5 prefix of the tenants' sets
-- ARGV: 1 now in ms, 2 how many at most, 3 after how many ms a popped task that nobody confirmed comes back
local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[3]), 'LIMIT', 0, 64)) do
  local home = redis.call('HGET', KEYS[3], id)
  redis.call('ZREM', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
  if home then
    local score, tenant = string.match(home, '^(%S+) (%S+)$')
    redis.call('ZADD', KEYS[5] .. tenant, score, id)
    if not redis.call('ZSCORE', KEYS[1], tenant) then
      redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[4]), tenant)
    end
  end
end
local taken = {}
local waiting = redis.call('ZCARD', KEYS[1])
while #taken < most and waiting > 0 do
  local tenant = redis.call('ZPOPMIN', KEYS[1])[1]
  if not tenant then break end
  local share = math.max(1, math.floor((most - #taken) / waiting))
  local members = redis.call('ZPOPMIN', KEYS[5] .. tenant, share)
  for i = 1, #members, 2 do
    taken[#taken + 1] = members[i]
    redis.call('ZADD', KEYS[2], now, members[i])
    redis.call('HSET', KEYS[3], members[i], members[i + 1] .. ' ' .. tenant)
  end
  if redis.call('EXISTS', KEYS[5] .. tenant) == 1 then
    redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[4]), tenant)
  else
    waiting = waiting - 1
  end
end
return taken
