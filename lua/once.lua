-- once: keys are claimed; the first to claim one has it for a time, or until it gives it back.
--
-- ARGV: for each of KEYS how long in milliseconds, 0 to give it back, and the number of the try that claims it; last the
-- server's run_id, which is of no matter here. Answers two numbers for each key: 0 if it is claimed or given back now, or
-- for how many milliseconds more it is taken, 1 at least; and whose number it had.

-- The last 17 bits of a number tell tries of one request apart.
local TRIES = 2 ^ 17

local answers = {}
for index, key in ipairs(KEYS) do
  local ttl, holder = ARGV[2 * index - 1], ARGV[2 * index]
  local left, had = 0, holder
  if ttl == '0' then
    if redis.call('GET', key) == holder then redis.call('DEL', key) end
  -- A number takes no memory of its own.
  elseif not redis.call('SET', key, holder, 'NX', 'PX', ttl) then
    left, had = math.max(redis.call('PTTL', key), 1), redis.call('GET', key) or '0'
    -- Another try of the same request has it from now on: what the one before gives back is not this one's.
    if math.floor(had / TRIES) == math.floor(holder / TRIES) then redis.call('SET', key, holder, 'PX', left) end
  end
  answers[2 * index - 1], answers[2 * index] = left, had
end
return answers
