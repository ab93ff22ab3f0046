-- once: keys are claimed; the first to claim one has it for a time, or until it gives it back.
--
-- ARGV: for each of KEYS how long in milliseconds, 0 to give it back, or "look" to claim nothing, and the number of the
-- try that claims it; last the server's run_id, which is of no matter here. Answers two numbers for each key: 0 if it is
-- free, or claimed or given back now, or for how many milliseconds more it is taken, 1 at least; and whose number it had.

-- The last 17 bits of a number tell tries of one request apart; 0 for several of them.
local TRIES = 2 ^ 17

local answers = {}
for index, key in ipairs(KEYS) do
  local ttl, holder = ARGV[2 * index - 1], ARGV[2 * index]
  local left, had = 0, holder
  if ttl == '0' then
    if redis.call('GET', key) == holder then redis.call('DEL', key) end
  elseif ttl == 'look' then
    local by = redis.call('GET', key)
    if by then left, had = math.max(redis.call('PTTL', key), 1), by end
  -- A number takes no memory of its own.
  elseif not redis.call('SET', key, holder, 'NX', 'PX', ttl) then
    left, had = math.max(redis.call('PTTL', key), 1), redis.call('GET', key) or '0'
    -- Of several tries of a request nobody knows which will be heard, nor in which order they came here: none of them can
    -- give the key back.
    local request = math.floor(holder / TRIES)
    if math.floor(had / TRIES) == request then
      redis.call('SET', key, string.format('%.0f', request * TRIES), 'PX', left)
    end
  end
  answers[2 * index - 1], answers[2 * index] = left, had
end
return answers
