-- once: keys are claimed; the first to claim one has it for a time.
--
-- ARGV: for each of KEYS how long in milliseconds; last the server's run_id, which is of no matter here. Answers for
-- each key: 0 if it is claimed now, or for how many milliseconds more somebody else has it, 1 at least.

local answers = {}
for index, key in ipairs(KEYS) do
  if redis.call('SET', key, '1', 'NX', 'PX', ARGV[index]) then
    answers[index] = 0
  else
    answers[index] = math.max(redis.call('PTTL', key), 1)
  end
end
return answers
