-- The line of one generation: the twin of src/room/line.rs, but for what heals it (heal.lua).
--
-- `waiting` and `called` of a line are counts; the bitmaps are under its keys and share its base. A line keeps its
-- keys in one of four slots.

do

-- Trimming moves the rest of the bitmaps down: only from so many dead bytes on.
local TRIM = 512
-- Doubles, which are exact for every number here: reading and writing decimal text took 9 µs of a call's 58.
local FORM = '>ddddddddddd'

local function at_slot(slot, generation, next, head, reached, base, waiting, called, marks, from, to, fresh)
  local first = 9 + slot * 7
  return {
    slot = slot, line = KEYS[first], seen = KEYS[first + 1], before = KEYS[first + 2], call = KEYS[first + 3],
    calls = KEYS[first + 4], heard = KEYS[first + 5], away = KEYS[first + 6],
    generation = generation, next = next, head = head, reached = reached, base = base, waiting = waiting,
    called = called, marks = marks,
    -- Doubt: numbers from `from` to below `to` may have been given unknown to this line; `to` 0: none.
    from = from, to = to,
    -- Numbers from here on were given in this liveness period: seen alive, though `seen` does not say so yet.
    fresh = fresh,
  }
end

function Line.clear(line)
  call('DEL', line.line, line.seen, line.before, line.call, line.calls, line.heard, line.away)
end

-- An empty line that begins with number 1.
function Line.new(slot, generation)
  local line = at_slot(slot, generation, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1)
  Line.clear(line)
  return line
end

function Line.parse(slot, text)
  return at_slot(slot, struct.unpack(FORM, text))
end

function Line.text(line)
  return struct.pack(FORM, line.generation, line.next, line.head, line.reached, line.base, line.waiting, line.called,
    line.marks, line.from, line.to, line.fresh)
end

function Line.in_doubt(line)
  return line.to > 0
end

-- Gives the memory of numbers that neither wait nor are called back. While in doubt, `heard` still needs them.
function Line.trim(line, must)
  if Line.in_doubt(line) then return end
  local dead = floor((line.head - line.base) / 64) * 8
  if dead <= 0 or not (must or (dead >= TRIM and dead * 2 >= (line.next - line.base) / 8)) then return end
  if line.called > 0 then
    dead = min(dead, floor((Bits.next_from(line.call, 0) or 0) / 64) * 8)
    if dead <= 0 or not (must or dead >= TRIM) then return end
  end
  for _, key in ipairs({ line.line, line.seen, line.before, line.call, line.away }) do
    local rest = call('GETRANGE', key, dead, -1)
    if rest == '' then call('DEL', key) else call('SET', key, rest) end
  end
  line.base = line.base + dead * 8
end

-- The offset of a number, the bitmaps moved where it has none; nil: it is too far from the others.
function Line.reach(line, number)
  local at = number - line.base
  if at >= 0 and at < SPAN then return at end
  return healing().reach(line, number)
end

-- Gives the next `count` numbers: the first of them, and whether they are in line.
function Line.give(line, count)
  local first = line.next
  line.next = first + count
  local fits = Line.reach(line, first) and Line.reach(line, line.next - 1) and true or false
  if fits then
    local from = first - line.base
    Bits.fill(line.line, from, from + count)
    line.waiting = line.waiting + count
    if Line.in_doubt(line) then Bits.fill(line.heard, from, from + count) end
  end
  return first, fits
end

-- 'waiting', 'called' or nil.
function Line.seat(line, number)
  local at = number - line.base
  if line.called > 0 and Bits.has(line.call, at) then return 'called' end
  if line.waiting > 0 and Bits.has(line.line, at) then return 'waiting' end
end

-- How many wait before a number; counted from the nearer end.
function Line.ahead_of(line, number)
  local at = number - line.base
  if number - line.head <= line.next - number then
    return Bits.count(line.line, line.head - line.base, at)
  end
  return line.waiting - Bits.count(line.line, at, SPAN)
end

function Line.hear(line, number)
  local at = number - line.base
  if line.waiting > 0 and Bits.has(line.line, at) then call('SETBIT', line.seen, at, 1) end
end

-- The part of a foreign bitmap that lies in from..to: index of its first byte in this line's bitmaps, bytes.
function Line.foreign(line, base, bytes, from, to)
  to = min(to, line.base + SPAN)
  local first, part = Bits.cut(bytes, from - base, to - base)
  return (base - line.base) / 8 + first, part
end

function Line.hear_all(line, base, bytes)
  local first, part = Line.foreign(line, base, bytes, max(line.head, line.base), line.next)
  Bits.join(line.seen, first, part)
end

function Line.hear_everybody(line)
  if line.waiting > 0 then call('BITOP', 'OR', line.seen, line.seen, line.line) end
end

-- Takes a number out of line and call; its seat until now.
function Line.remove(line, number)
  local seat = Line.seat(line, number)
  local at = number - line.base
  if Bits.remove(line.call, at) then line.called = line.called - 1 end
  if Bits.remove(line.line, at) then
    line.waiting = line.waiting - 1
    line.head_is_right = false
  end
  return seat
end

-- Marks those given in this liveness period as seen.
function Line.mark_fresh(line)
  Bits.fill(line.seen, max(line.fresh - line.base, 0), min(line.next - line.base, SPAN))
  line.fresh = line.next
end

function Line.rotate(line)
  Line.mark_fresh(line)
  if line.waiting > 0 then
    call('BITOP', 'OR', SCRATCH, line.seen, line.before)
    call('BITOP', 'AND', line.line, line.line, SCRATCH)
    call('DEL', SCRATCH)
    line.waiting = call('BITCOUNT', line.line)
    line.head_is_right = false
  end
  if call('EXISTS', line.seen) == 1 then
    call('RENAME', line.seen, line.before)
  else
    call('DEL', line.before)
  end
  -- As above: only a deleted key makes a difference.
  if line.called > 0 then line.called = call('BITCOUNT', line.call) end
end

local function mark(line, index)
  -- A key that somebody has deleted must not break the room for good.
  local at, upto = string.match(call('LINDEX', line.calls, index) or '0 0', '^(%d+) (%d+)$')
  return tonumber(at), tonumber(upto)
end
Line.mark = mark

function Line.note_call(line, from, upto, at)
  -- Those behind which the head was set back begin anew.
  while line.marks > 0 do
    local last_at, last_upto = mark(line, -1)
    if last_at < at and last_upto <= from then break end
    call('RPOP', line.calls)
    line.marks = line.marks - 1
    upto = max(upto, last_upto)
  end
  call('RPUSH', line.calls, int(at) .. ' ' .. int(upto))
  line.marks = line.marks + 1
end

-- Moves those who wait in from..to (offsets) to the called.
function Line.move_to_called(line, from, to)
  from = max(from, 0)
  local first, bytes = Bits.read(line.line, from, to)
  local before = Bits.count(line.call, from, to)
  Bits.join(line.call, first, bytes)
  local count = Bits.count(line.line, from, to)
  Bits.clear(line.line, from, to)
  line.waiting = line.waiting - count
  line.called = line.called + Bits.count(line.call, from, to) - before
end

-- The first at or above `number` that waits, or where the next one will be given.
function Line.first_waiting(line, number)
  local at = line.waiting > 0 and Bits.next_from(line.line, number - line.base)
  return at and line.base + at or line.next
end

-- Calls up to `quota` of those who wait, as of `at`; how many.
function Line.call_next(line, quota, at)
  local count = min(quota, line.waiting)
  if count > 0 then
    local from = line.head - line.base
    local to = Bits.after_nth(line.line, from, count)
    Line.move_to_called(line, from, to)
    Line.note_call(line, line.head, line.base + to, at)
    line.head = line.base + to
  end
  if count > 0 or not line.head_is_right then
    line.head = Line.first_waiting(line, line.head)
    line.reached = max(line.reached, line.head)
    line.head_is_right = true
    Line.trim(line)
  end
  return count
end

function Line.expire_calls(line, before)
  if line.called == 0 then
    if line.marks > 0 then call('DEL', line.calls) end
    line.marks = 0
    return
  end
  local upto = 0
  while line.marks > 0 do
    local at, number = mark(line, 0)
    if at > before then break end
    call('LPOP', line.calls)
    line.marks = line.marks - 1
    upto = max(upto, number)
  end
  if line.marks == 0 then
    -- Every call has a mark. Said so that a key that somebody has deleted cannot hold slots for ever.
    call('DEL', line.call)
    line.called = 0
  elseif upto > line.base then
    line.called = line.called - Bits.count(line.call, 0, upto - line.base)
    Bits.clear(line.call, 0, upto - line.base)
  end
end

end
