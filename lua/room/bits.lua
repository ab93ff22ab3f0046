-- Bitmaps in Redis strings, by offset from their line's base: the twin of src/room/bits.rs.
--
-- Ranges are moved, set and counted as whole bytes; nothing here loops over visitors.

-- A function that takes a name from out here looks for it from the last one back, each time a script runs: so the
-- names that many functions take come last, and each part closes those that only it needs (measured: 24 µs without
-- either, 8 µs with both).
local byte, char, rep = string.byte, string.char, string.rep
local band, bor, rshift = bit.band, bit.bor, bit.rshift
local ROOM, SESSIONS, REVOKED, REVOKED_LOG, USERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
-- Where versions before kept users.
local OLD_USERS = KEYS[8]
-- For what one call needs no longer than itself; always deleted again.
local SCRATCH = KEYS[6]
local AWAY = KEYS[7]
-- The widest span of one bitmap: 2^30 offsets, 128 MiB.
local SPAN = 1073741824
-- One credit in the unit they are kept in.
local CREDIT = 3600000
local sub, floor = string.sub, math.floor

-- A whole number as text: Lua's own conversion writes large ones with an exponent.
local function int(number)
  return string.format('%d', number)
end

-- What heals, and what knows users, is built only when it is needed: in most calls it never is.
local healing, users
local min, max = math.min, math.max
local Room, Line, Bits = {}, {}, {}
local call = redis.call

do

function Bits.has(key, at)
  return at >= 0 and at < SPAN and call('GETBIT', key, at) == 1
end

-- Adds a member; false if it was there, or is out of reach.
function Bits.insert(key, at)
  return at >= 0 and at < SPAN and call('SETBIT', key, at, 1) == 0
end

-- Takes a member out; false if it was not there.
function Bits.remove(key, at)
  if not Bits.has(key, at) then return false end
  call('SETBIT', key, at, 0)
  return true
end

-- How many members lie in from..to.
function Bits.count(key, from, to)
  from = max(from, 0)
  if to <= from then return 0 end
  return call('BITCOUNT', key, from, to - 1, 'BIT')
end

-- The smallest member at or above an offset; nil: none.
function Bits.next_from(key, at)
  local found = call('BITPOS', key, 1, max(at, 0), -1, 'BIT')
  return found >= 0 and found or nil
end

-- The offset after the n-th member from `from` on; there must be as many.
function Bits.after_nth(key, from, n)
  -- A number is one member at most: a step as long as what is missing never goes too far. In a dense line the
  -- first one or two are enough.
  for _ = 1, 4 do
    local to = from + n
    n = n - Bits.count(key, from, to)
    from = to
    if n == 0 then return to end
  end
  local low, high = from, call('STRLEN', key) * 8
  while high - low > 1 do
    local middle = floor((low + high) / 2)
    local found = Bits.count(key, low, middle)
    if found >= n then
      high = middle
    else
      low, n = middle, n - found
    end
  end
  return high
end

local function set_range(key, from, to, whole)
  local one = whole == '\255' and 1 or 0
  local first, last = floor((from + 7) / 8), floor(to / 8)
  if last <= first then
    return call('BITFIELD', key, 'SET', 'u' .. to - from, from, (2 ^ (to - from) - 1) * one)
  end
  call('SETRANGE', key, first, rep(whole, last - first))
  local head, tail = first * 8 - from, to - last * 8
  if head > 0 and tail > 0 then
    call('BITFIELD', key, 'SET', 'u' .. head, from, (2 ^ head - 1) * one,
      'SET', 'u' .. tail, last * 8, (2 ^ tail - 1) * one)
  elseif head > 0 then
    call('BITFIELD', key, 'SET', 'u' .. head, from, (2 ^ head - 1) * one)
  elseif tail > 0 then
    call('BITFIELD', key, 'SET', 'u' .. tail, last * 8, (2 ^ tail - 1) * one)
  end
end

-- Makes all of from..to members.
function Bits.fill(key, from, to)
  if from < to then set_range(key, from, to, '\255') end
end

-- Takes all of from..to out.
function Bits.clear(key, from, to)
  from, to = max(from, 0), min(to, call('STRLEN', key) * 8)
  if from < to then set_range(key, from, to, '\0') end
end

-- Of a bitmap's bytes those that hold from..to, all other bits cleared: index of the first, bytes.
function Bits.cut(bytes, from, to)
  from, to = max(from, 0), min(to, #bytes * 8)
  if to <= from then return 0, '' end
  local first, last = floor(from / 8), floor((to - 1) / 8)
  local head, tail = rshift(255, from % 8), to % 8 == 0 and 255 or 255 - rshift(255, to % 8)
  if first == last then
    return first, char(band(byte(bytes, first + 1), head, tail))
  end
  return first, char(band(byte(bytes, first + 1), head)) .. sub(bytes, first + 2, last)
    .. char(band(byte(bytes, last + 1), tail))
end

-- The members in from..to: index of the first byte, bytes.
function Bits.read(key, from, to)
  local start = floor(from / 8)
  local bytes = call('GETRANGE', key, start, floor((to - 1) / 8))
  local first, part = Bits.cut(bytes, from - start * 8, to - start * 8)
  return start + first, part
end

-- Adds the members of `bytes`, the first of which stands at byte `first`.
function Bits.join(key, first, bytes)
  if bytes == '' then return end
  local own = call('GETRANGE', key, first, first + #bytes - 1)
  local shared = byte(own, 1)
  if shared and shared ~= 0 then
    bytes = char(bor(shared, byte(bytes, 1))) .. sub(bytes, 2)
  end
  if string.find(own, '[^%z]', 2) then
    call('SETRANGE', SCRATCH, first, bytes)
    call('BITOP', 'OR', key, key, SCRATCH)
    call('DEL', SCRATCH)
  else
    call('SETRANGE', key, first, bytes)
  end
end

end
