-- once: keys are claimed; the first to claim one has it for a time, or until it gives it back.
--
-- ARGV: for each of KEYS how long in milliseconds, 0 to give it back, and the number of the request that claims it; last
-- the server's run_id, which is of no matter here. Answers two numbers for each key: 0 if it is claimed or given back now,
-- or for how many milliseconds more it is taken, 1 at least; and whose number it has.

local answers = {}
for index, key in ipairs(KEYS) do
  local ttl, holder = ARGV[2 * index - 1], ARGV[2 * index]
  local left = 0
  if ttl == '0' then
    if redis.call('GET', key) == holder then redis.call('DEL', key) end
  -- A number below 2^63 takes no memory of its own.
  elseif not redis.call('SET', key, holder, 'NX', 'PX', ttl) then
    left, holder = math.max(redis.call('PTTL', key), 1), redis.call('GET', key) or '0'
  end
  answers[2 * index - 1], answers[2 * index] = left, holder
end
return answers
