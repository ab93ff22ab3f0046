-- limit: keys spend from their quotas: the twin of src/room/gcra.rs.
--
-- ARGV: now in microseconds (empty: Redis tells the time); then for each of KEYS its quota: count, period in milliseconds
-- and burst, packed; last the server's run_id, which is of no matter here. Answers for each key: 1 if allowed, how many
-- more would be, microseconds until one more would be, and until the whole burst would be.
--
-- A key holds the microsecond at which it will have spent nothing, and after a colon the rest of that in 1 / count of
-- one, where there is any: a whole number alone takes Redis the least memory. It goes once it says nothing any more.

local floor, min = math.floor, math.min
local now, keep = tonumber(ARGV[1]), 0
if now then
  -- A clock that is set by hand says nothing of when Redis will have a key go.
  keep = 3600000
else
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local function ceil_of(number, count)
  return floor((number + count - 1) / count)
end

local answers = {}
for index, key in ipairs(KEYS) do
  local count, period, burst = struct.unpack('>I4I4I4', ARGV[index + 1])
  -- In parts of a microsecond, `count` of which are one.
  local interval = period * 1000
  local full = burst * interval
  local spent, capped = 0, false
  local at, rest = string.match(redis.call('GET', key) or '', '^(%d+):?(%d*)$')
  if at then
    local ahead = tonumber(at) - now
    if ahead >= 0 then
      spent = min(ahead, floor(full / count) + 1) * count + min(tonumber(rest) or 0, count - 1)
      capped = spent > full
      spent = min(spent, full)
    end
  end
  local allowed = spent + interval <= full
  if allowed then spent = spent + interval end
  local reset = ceil_of(spent, count)
  if allowed or capped then
    local whole, rest = now + floor(spent / count), spent % count
    local value = string.format(rest > 0 and '%.0f:%.0f' or '%.0f', whole, rest)
    redis.call('SET', key, value, 'PX', ceil_of(reset, 1000) + keep)
  end
  local short = spent + interval - full
  answers[#answers + 1] = allowed and 1 or 0
  answers[#answers + 1] = floor((full - spent) / interval)
  answers[#answers + 1] = short > 0 and ceil_of(short, count) or 0
  answers[#answers + 1] = reset
end
return answers
