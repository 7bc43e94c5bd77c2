-- What a call taught about its provider: it failed, it lives, it asks for a pause, or the probe was never sent.
-- KEYS: 1 the provider's gate
-- ARGV: 1 fault | alive | pause | unprobe, 2 how long the pause lasts in ms, 3 whether the call was the probe,
--       4 faults that open, 5 within ms, 6 how long it stays open at first in ms, 7 at most
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local what, is_probe, key = ARGV[1], ARGV[3] == '1', KEYS[1]
local row = redis.call('HMGET', key, 'paused', 'open', 'opens', 'faults', 'first')
local paused, open, opens = tonumber(row[1] or 0), tonumber(row[2] or 0), tonumber(row[3] or 0)
local faults, first = tonumber(row[4] or 0), tonumber(row[5] or 0)
if what == 'pause' then
  paused = math.max(paused, now + tonumber(ARGV[2]))
  redis.call('HSET', key, 'paused', paused, 'waiters', 0)
elseif what == 'fault' then
  if open > 0 and not is_probe then
    -- an answer from before it opened
  else
    if now - first > tonumber(ARGV[5]) then faults, first = 0, now end
    faults = faults + 1
    if is_probe or faults >= tonumber(ARGV[4]) then
      open = now + math.min(tonumber(ARGV[6]) * 2 ^ opens, tonumber(ARGV[7]))
      opens = math.min(opens + 1, 10)
      faults = 0
      redis.call('HSET', key, 'waiters', 0)
    end
    redis.call('HSET', key, 'open', open, 'opens', opens, 'faults', faults, 'first', first, 'probe', 0)
  end
elseif what == 'unprobe' then
  if is_probe then redis.call('HSET', key, 'probe', 0) end
end
-- a provider that answers, be it a refusal, lives; what was asked before the breaker opened closes nothing
if what == 'alive' or what == 'pause' then
  if is_probe then
    redis.call('HDEL', key, 'open', 'opens', 'probe', 'faults', 'first')
  elseif open == 0 then
    redis.call('HDEL', key, 'faults', 'first')
  end
end
redis.call('PEXPIRE', key, math.max(paused - now, open - now, 0) + 600000)
return open
