-- Takes at most ARGV[2] tasks of one pool: next is the tenant with the least running beside its weight, among equals the
-- one whose turn it is. Looks at no more than 64 tenants, those whose turn comes first; takes notice of at most 1,024
-- beginnings and ends. The same rule in Rust: ring.rs.
-- KEYS: 1 ring (tenants by turn), 2 popped (id -> when), 3 popped homes (id -> "score tenant"), 4 the turn served last,
--   5 prefix of the tenants' sets, 6 prefix of the sets of what tenants have running (id -> until when), 7 weights
-- ARGV: 1 now in ms, 2 how many at most, 3 after how many ms a popped task that nobody confirmed comes back, 4 how many
--   tenants are looked at, 5 the step of a turn, then for each beginning or end: tenant, id, until when (0: it ended)
local now, most, back, look, step = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local function whole(number) return string.format('%.0f', number) end
local function weight_of(tenant) return tonumber(redis.call('HGET', KEYS[7], tenant) or '1') end
local function step_of(weight) return math.max(1, math.floor(step / weight)) end
local reached = tonumber(redis.call('GET', KEYS[4]) or '0')
for i = 6, #ARGV, 3 do
  if ARGV[i + 2] == '0' then
    redis.call('ZREM', KEYS[6] .. ARGV[i], ARGV[i + 1])
  else
    redis.call('ZADD', KEYS[6] .. ARGV[i], ARGV[i + 2], ARGV[i + 1])
    redis.call('PEXPIRE', KEYS[6] .. ARGV[i], 600000)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - back, 'LIMIT', 0, 64)) do
  local home = redis.call('HGET', KEYS[3], id)
  redis.call('ZREM', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
  if home then
    local score, tenant = string.match(home, '^(%S+) (%S+)$')
    redis.call('ZADD', KEYS[5] .. tenant, score, id)
    redis.call('ZREM', KEYS[6] .. tenant, id)
    redis.call('ZADD', KEYS[1], 'NX', whole(reached + step_of(weight_of(tenant))), tenant)
  end
end
-- who stands in line
local line = {}
local ring = redis.call('ZRANGE', KEYS[1], 0, look - 1, 'WITHSCORES')
for i = 1, #ring, 2 do
  local tenant, waiting = ring[i], redis.call('ZCARD', KEYS[5] .. ring[i])
  if waiting == 0 then
    redis.call('ZREM', KEYS[1], tenant)
  else
    local running = KEYS[6] .. tenant
    redis.call('ZREMRANGEBYSCORE', running, '-inf', now)
    line[#line + 1] = {
      tenant = tenant, turn = tonumber(ring[i + 1]), waiting = waiting, load = redis.call('ZCARD', running),
      weight = weight_of(tenant), taken = 0
    }
  end
end
local function goes_before(a, b)
  local left, right = a.load * b.weight, b.load * a.weight
  if left ~= right then return left < right end
  if a.turn ~= b.turn then return a.turn < b.turn end
  return a.tenant < b.tenant
end
local served = {}
while #served < most do
  local next
  for _, one in ipairs(line) do
    if one.taken < one.waiting and (not next or goes_before(one, next)) then next = one end
  end
  if not next then break end
  served[#served + 1] = next
  next.taken, next.load = next.taken + 1, next.load + 1
  reached = math.max(reached, next.turn)
  next.turn = next.turn + step_of(next.weight)
end
for _, one in ipairs(line) do
  if one.taken > 0 then
    one.members, one.given = redis.call('ZPOPMIN', KEYS[5] .. one.tenant, one.taken), 0
    local popped, homes, running = {}, {}, {}
    for i = 1, #one.members, 2 do
      local id = one.members[i]
      popped[i], popped[i + 1] = now, id
      homes[i], homes[i + 1] = id, one.members[i + 1] .. ' ' .. one.tenant
      running[i], running[i + 1] = whole(now + back), id
    end
    redis.call('ZADD', KEYS[2], unpack(popped))
    redis.call('HSET', KEYS[3], unpack(homes))
    redis.call('ZADD', KEYS[6] .. one.tenant, unpack(running))
    redis.call('PEXPIRE', KEYS[6] .. one.tenant, 600000)
    if one.taken < one.waiting then
      redis.call('ZADD', KEYS[1], whole(one.turn), one.tenant)
    else
      redis.call('ZREM', KEYS[1], one.tenant)
    end
  end
end
if #served > 0 then redis.call('SET', KEYS[4], whole(reached)) end
local taken = {}
for i, one in ipairs(served) do
  taken[i] = one.members[one.given * 2 + 1]
  one.given = one.given + 1
end
return taken
