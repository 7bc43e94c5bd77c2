-- Gives back what was taken, or takes what was used beyond it. Bounded by the buckets.
-- KEYS: 1 a place to give up (or a key that is not there), then the buckets
-- ARGV: 1 whether the place must still be there for anything to be given back, then for each bucket: limit a minute,
--       units to give back (negative: to take)
if redis.call('DEL', KEYS[1]) == 0 and ARGV[1] == '1' then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #KEYS do
  local limit, back = tonumber(ARGV[2 * i - 2]), tonumber(ARGV[2 * i - 1]) * 60000
  local full = limit * 60000
  local row = redis.call('HMGET', KEYS[i], 'level', 'at', 'tail')
  if row[1] then
    local level = math.min(full, tonumber(row[1]) + math.max(0, now - tonumber(row[2])) * limit)
    -- one call's surprise keeps others waiting for two minutes at most
    local least = math.min(level, -2 * full)
    level = math.min(full, math.max(level + back, least))
    redis.call('HSET', KEYS[i], 'level', level, 'at', now)
    redis.call('PEXPIRE', KEYS[i], math.max(tonumber(row[3] or 0) - now, 0) + 240000)
  elseif back < 0 then
    redis.call('HSET', KEYS[i], 'level', math.max(full + back, -2 * full), 'at', now, 'tail', 0)
    redis.call('PEXPIRE', KEYS[i], 240000)
  end
end
return 1
