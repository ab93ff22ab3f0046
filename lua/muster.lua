-- muster: a replica says that it is there, hears how many are, and what document they share.
--
-- KEYS: the replicas that answer Checks, all others, the document. ARGV: the replica's id, 1 if it answers Checks, how
-- long in milliseconds it counts from now on, the version of the document that it knows; what is to be done with the
-- document: nothing, 'new' (in place of the one known) or 'lost' (it is the one known), and its text; last the server's
-- run_id, which is of no matter here.
--
-- Answers how many replicas answer Checks, how many others there are, the document's version, and its text if that is
-- newer than the one known: then nothing was done with what was offered.
--
-- Versions are times: one that was posted after all was lost is newer than what replicas remember.

local id, checks, stay, known = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZADD', KEYS[checks and 1 or 2], now + stay, id)
for index = 1, 2 do
  redis.call('ZREMRANGEBYSCORE', KEYS[index], '-inf', now)
  -- The longest that a key of replicas stands when the last of them is gone.
  redis.call('PEXPIRE', KEYS[index], stay)
end

local version = tonumber(redis.call('HGET', KEYS[3], 'version')) or 0
local what, text = ARGV[5], ARGV[6]
local given = (what == 'new' and math.max(now, known + 1)) or (what == 'lost' and known)
if given and version <= known then
  version, known = given, given
  redis.call('HSET', KEYS[3], 'version', string.format('%.0f', version), 'text', text)
end

local answers = { redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2]), version }
if version > known then answers[4] = redis.call('HGET', KEYS[3], 'text') end
return answers
