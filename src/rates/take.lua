-- Asks for one call: takes all of its buckets or none, or gives the caller a place in time. Bounded by the buckets.
-- KEYS: 1 the provider's gate, 2 the caller's place, then the buckets, one for each limit
-- ARGV: 1 how long a place outlives its time in ms, 2 pause between the callers of one gate in ms, 3 at most so long,
--       4 how long a probe may take in ms, 5 how long others wait for it, then for each bucket: limit a minute, cost
-- Answers: {verdict, wait in ms, number of the bucket, whether a place was kept}
-- A level counts in 60,000ths of a unit, so that a limit a minute is a whole number a millisecond.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gate = redis.call('HMGET', KEYS[1], 'paused', 'open', 'probe')
local paused, open, probe = tonumber(gate[1] or 0), tonumber(gate[2] or 0), tonumber(gate[3] or 0)
-- everybody who is sent away comes back at a time of its own
local function apart()
  local waiters = redis.call('HINCRBY', KEYS[1], 'waiters', 1)
  return math.min((waiters - 1) * tonumber(ARGV[2]), tonumber(ARGV[3]))
end
if paused > now then
  return {'paused', paused - now + apart(), 0, 0}
end
if open > now then
  return {'open', open - now + apart(), 0, 0}
end
if open > 0 and probe > now then
  return {'open', math.min(probe - now, tonumber(ARGV[5])) + apart(), 0, 0}
end
local verdict = 'go'
if open > 0 then verdict = 'probe' end
local function admit()
  if open > 0 then redis.call('HSET', KEYS[1], 'probe', now + tonumber(ARGV[4])) end
  return {verdict, 0, 0, 0}
end
local place = redis.call('GET', KEYS[2])
if place then
  local due, which = string.match(place, '^(%d+) (%d+)$')
  due = tonumber(due)
  if due - now > 50 then
    return {'limit', due - now, tonumber(which), 1}
  end
  -- it was paid for when it was given
  redis.call('DEL', KEYS[2])
  return admit()
end
local levels, tails, longest, culprit, beyond = {}, {}, 0, 0, false
for i = 3, #KEYS do
  local limit, cost = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1]) * 60000
  local full = limit * 60000
  cost = math.min(cost, full)
  local row = redis.call('HMGET', KEYS[i], 'level', 'at', 'tail')
  local level = full
  if row[1] then level = math.min(full, tonumber(row[1]) + math.max(0, now - tonumber(row[2])) * limit) end
  if level < -full then beyond = true end
  local wait = math.ceil(math.max(0, cost - level) / limit)
  if wait > longest then longest, culprit = wait, i end
  levels[i], tails[i] = level, tonumber(row[3] or 0)
end
if longest > 0 and beyond then
  -- the line is full: come back when there is room in it, one after the other
  local limit, i = tonumber(ARGV[2 * culprit]), culprit
  local cost = math.min(tonumber(ARGV[2 * i + 1]), limit) * 60000
  local room = now + math.ceil(math.max(0, -levels[i] - limit * 30000) / limit)
  local tail = math.max(tails[i], room) + math.ceil(cost / limit)
  redis.call('HSET', KEYS[i], 'level', levels[i], 'at', now, 'tail', tail)
  redis.call('PEXPIRE', KEYS[i], math.max(tail - now, 0) + 240000)
  return {'limit', tail - now, i - 2, 0}
end
for i = 3, #KEYS do
  local limit = tonumber(ARGV[2 * i])
  local cost = math.min(tonumber(ARGV[2 * i + 1]), limit) * 60000
  redis.call('HSET', KEYS[i], 'level', levels[i] - cost, 'at', now, 'tail', tails[i])
  redis.call('PEXPIRE', KEYS[i], math.max(tails[i] - now, 0) + 240000)
end
if longest == 0 then return admit() end
redis.call('SET', KEYS[2], string.format('%.0f %d', now + longest, culprit - 2), 'PX', longest + tonumber(ARGV[1]))
return {'limit', longest, culprit - 2, 1}
