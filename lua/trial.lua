-- trial: which commands that the other scripts use a user may not run on our keys. It runs none of them.

local KEY = 'anteroom:{trial}:room'
local refused = {}

-- A command that the server does not have, or under another name only, is an error here.
local function need(...)
  local known, may = pcall(redis.acl_check_cmd, ...)
  if not (known and may) then refused[#refused + 1] = (...) end
end

need('EVAL', 'return 1', '1', KEY)
need('EVALSHA', '0', '1', KEY)
need('TIME')
need('BITCOUNT', KEY)
need('BITFIELD', KEY, 'SET', 'u1', '0', '1')
need('BITOP', 'OR', KEY, KEY, KEY)
need('BITPOS', KEY, '1')
need('DEL', KEY)
need('EXISTS', KEY)
need('GET', KEY)
need('GETBIT', KEY, '0')
need('GETRANGE', KEY, '0', '-1')
need('HDEL', KEY, 'f')
need('HGET', KEY, 'f')
need('HMGET', KEY, 'f')
need('HSCAN', KEY, '0')
need('HSET', KEY, 'f', 'v')
need('LINDEX', KEY, '0')
need('LLEN', KEY)
need('LPOP', KEY)
need('LRANGE', KEY, '0', '-1')
need('PERSIST', KEY)
need('PEXPIRE', KEY, '1')
need('PTTL', KEY)
need('RENAME', KEY, KEY)
need('RPOP', KEY)
need('RPUSH', KEY, 'v')
need('SET', KEY, 'v')
need('SETBIT', KEY, '0', '1')
need('SETRANGE', KEY, '0', 'v')
need('STRLEN', KEY)
need('ZADD', KEY, '1', 'm')
need('ZCARD', KEY)
need('ZRANGE', KEY, '0', '-1')
need('ZREM', KEY, 'm')
need('ZREMRANGEBYSCORE', KEY, '0', '1')
need('ZSCORE', KEY, 'm')
return refused
