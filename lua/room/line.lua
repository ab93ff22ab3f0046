-- The line of one generation: the twin of src/room/line.rs.
--
-- `waiting` and `called` of a line are counts; the bitmaps are under its keys and share its base. A line keeps its
-- keys in one of four slots.

-- How many numbers a healed line leaves out beyond the highest it knows of.
local MARGIN = 65536
-- Beyond every number: all are exact in a double up to here.
local END = 9007199254740992
-- How far below a number its bitmap begins when it has to be moved down: so that it is not for each number anew.
local SLACK = 524288
-- Trimming moves the rest of the bitmaps down: only from so many dead bytes on.
local TRIM = 512

local Line = {}

local function at_slot(line, slot)
  local first = 7 + slot * 6
  line.slot = slot
  line.line, line.seen, line.before = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  line.call, line.calls, line.heard = KEYS[first + 3], KEYS[first + 4], KEYS[first + 5]
  return line
end

function Line.clear(line)
  call('DEL', line.line, line.seen, line.before, line.call, line.calls, line.heard)
end

-- An empty line that begins with number 1.
function Line.new(slot, generation)
  local line = at_slot({
    generation = generation, next = 1, head = 1, reached = 1, base = 0, waiting = 0, called = 0, marks = 0,
    -- Doubt: numbers from `from` to below `to` may have been given unknown to this line; 0: none.
    from = 0, to = 0,
  }, slot)
  Line.clear(line)
  return line
end

local FORM = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$'

function Line.parse(slot, text)
  local line = at_slot({}, slot)
  local generation, next, head, reached, base, waiting, called, marks, from, to = string.match(text, FORM)
  line.generation, line.next, line.head = tonumber(generation), tonumber(next), tonumber(head)
  line.reached, line.base, line.waiting = tonumber(reached), tonumber(base), tonumber(waiting)
  line.called, line.marks = tonumber(called), tonumber(marks)
  line.from, line.to = tonumber(from), tonumber(to)
  return line
end

function Line.text(line)
  return string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f', line.generation, line.next, line.head,
    line.reached, line.base, line.waiting, line.called, line.marks, line.from, line.to)
end

function Line.in_doubt(line)
  return line.to > 0
end

-- Gives the memory of numbers that neither wait nor are called back. While in doubt, `heard` still needs them.
function Line.trim(line, must)
  if Line.in_doubt(line) then return end
  local first = line.head
  if line.called > 0 then
    first = min(first, line.base + (Bits.next_from(line.call, 0) or first))
  end
  local base = first - first % 64
  local dead = (base - line.base) / 8
  if dead <= 0 or not (must or (dead >= TRIM and dead * 2 >= (line.next - line.base) / 8)) then return end
  for _, key in ipairs({ line.line, line.seen, line.before, line.call }) do
    local rest = call('GETRANGE', key, dead, -1)
    if rest == '' then call('DEL', key) else call('SET', key, rest) end
  end
  line.base = base
end

-- The offset of a number, the bitmaps moved so that it has one; nil: it is too far from the others.
local function reach(line, number)
  if number - line.base >= SPAN then Line.trim(line, true) end
  local keys = { line.line, line.seen, line.before, line.call, line.heard }
  local function is_blank() return line.waiting == 0 and line.called == 0 and call('EXISTS', line.heard) == 0 end
  if number - line.base >= SPAN and is_blank() then
    call('DEL', unpack(keys))
    line.base = number - number % 64
  end
  if number < line.base then
    local base = max(0, number - number % 64 - SLACK)
    local longest = 0
    for _, key in ipairs(keys) do longest = max(longest, call('STRLEN', key)) end
    local grow = (line.base - base) / 8
    if (grow + longest) * 8 > SPAN then return nil end
    for _, key in ipairs(keys) do
      if call('EXISTS', key) == 1 then call('SET', key, rep('\0', grow) .. call('GET', key)) end
    end
    line.base = base
  end
  local at = number - line.base
  return at < SPAN and at or nil
end

-- Gives the next `count` numbers; the first of them.
function Line.give(line, count)
  local first = line.next
  line.next = first + count
  if reach(line, first) and reach(line, line.next - 1) then
    local from = first - line.base
    Bits.fill(line.line, from, from + count)
    Bits.fill(line.seen, from, from + count)
    line.waiting = line.waiting + count
    if Line.in_doubt(line) then Bits.fill(line.heard, from, from + count) end
  end
  return first
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
local function foreign(line, base, bytes, from, to)
  to = min(to, line.base + SPAN)
  local first, part = Bits.cut(bytes, from - base, to - base)
  return (base - line.base) / 8 + first, part
end

function Line.hear_all(line, base, bytes)
  local first, part = foreign(line, base, bytes, line.head, line.next)
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
  if Bits.remove(line.line, at) then line.waiting = line.waiting - 1 end
  return seat
end

function Line.rotate(line)
  if line.waiting > 0 then
    call('BITOP', 'OR', SCRATCH, line.seen, line.before)
    call('BITOP', 'AND', line.line, line.line, SCRATCH)
    call('DEL', SCRATCH)
    line.waiting = call('BITCOUNT', line.line)
  end
  if call('EXISTS', line.seen) == 1 then
    call('RENAME', line.seen, line.before)
  else
    call('DEL', line.before)
  end
end

local function mark(line, index)
  -- A key that somebody has deleted must not break the room for good.
  local at, upto = string.match(call('LINDEX', line.calls, index) or '0 0', '^(%d+) (%d+)$')
  return tonumber(at), tonumber(upto)
end

local function note_call(line, from, upto, at)
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

-- Moves those who wait in from..to (offsets) to the called; how many.
local function move_to_called(line, from, to)
  local first, bytes = Bits.read(line.line, from, to)
  local before = Bits.count(line.call, from, to)
  Bits.join(line.call, first, bytes)
  local count = Bits.count(line.line, from, to)
  Bits.clear(line.line, from, to)
  line.waiting = line.waiting - count
  line.called = line.called + Bits.count(line.call, from, to) - before
  return count
end

-- The first at or above `number` that waits, or where the next one will be given.
local function first_waiting(line, number)
  local at = line.waiting > 0 and Bits.next_from(line.line, number - line.base)
  return at and line.base + at or line.next
end

-- Calls up to `quota` of those who wait, as of `at`; how many.
function Line.call_next(line, quota, at)
  local count = min(quota, line.waiting)
  if count > 0 then
    local from = line.head - line.base
    local to = Bits.after_nth(line.line, from, count)
    move_to_called(line, from, to)
    note_call(line, line.head, line.base + to, at)
    line.head = line.base + to
  end
  line.head = first_waiting(line, line.head)
  line.reached = max(line.reached, line.head)
  Line.trim(line)
  return count
end

function Line.expire_calls(line, before)
  if line.marks == 0 then return end
  if line.called == 0 then
    call('DEL', line.calls)
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
  local to = upto - line.base
  line.called = line.called - Bits.count(line.call, 0, to)
  if to > 0 then Bits.clear(line.call, 0, to) end
end

function Line.renew_calls(line, at)
  if line.marks == 0 then return end
  local _, upto = mark(line, -1)
  call('DEL', line.calls)
  call('RPUSH', line.calls, int(at) .. ' ' .. int(upto))
  line.marks = 1
end

-- Numbers from `from` to below `to` may have been given without this line knowing.
function Line.lose_from(line, from, to)
  local drained = line.head >= line.next
  line.next = max(line.next, to)
  if Line.in_doubt(line) then
    line.from, line.to = min(line.from, from), max(line.to, to)
  else
    line.from, line.to = from, to
    call('DEL', line.heard)
  end
  if drained then
    line.head = line.next
    line.reached = max(line.reached, line.head)
  end
end

local function lose_upto(line, number)
  if number >= line.next and number < line.next + SPAN then
    Line.lose_from(line, line.next, number + 1)
  end
end

-- Notes that what became of a number is known; false if it was already.
local function hear_of(line, number)
  local at = reach(line, number)
  return at and Bits.insert(line.heard, at) or false
end

function Line.recover(line, number)
  lose_upto(line, number)
  if not Line.in_doubt(line) or number < line.from or number >= line.to or not hear_of(line, number) then
    return false
  end
  local at = number - line.base
  if not Bits.insert(line.line, at) then return false end
  line.waiting = line.waiting + 1
  call('SETBIT', line.seen, at, 1)
  line.head = min(line.head, number)
  return true
end

-- A number is known to have entered or left.
function Line.close(line, number)
  lose_upto(line, number)
  if Line.in_doubt(line) then hear_of(line, number) end
end

local function note_restored(line, before, from, at)
  if line.called > before then
    note_call(line, from, line.base + Bits.after_nth(line.call, 0, line.called), at)
  end
end

-- The head is known to have been at `head` already.
function Line.catch_up_head(line, head, at)
  local start = line.head
  head = min(head, line.next)
  if head <= line.reached then return end
  local before = line.called
  if line.waiting > 0 then move_to_called(line, start - line.base, min(head - line.base, SPAN)) end
  note_restored(line, before, start, at)
  line.head = first_waiting(line, head)
  line.reached = line.head
end

-- Takes over what a replica last knew, for numbers in doubt that were not heard of since.
function Line.restore(line, known, at)
  if not Line.in_doubt(line) then return end
  local from, to = line.from, min(line.to, known.next)
  if from >= to then return end
  local before = line.called
  if not reach(line, from) then return end
  local function take_over(key, base, bytes)
    local first, part = foreign(line, base, bytes, from, to)
    if part == '' then return call('BITCOUNT', key) end
    call('SETRANGE', SCRATCH, first, part)
    call('BITOP', 'OR', SCRATCH, SCRATCH, line.heard)
    call('BITOP', 'XOR', SCRATCH, SCRATCH, line.heard)
    call('BITOP', 'OR', key, key, SCRATCH)
    call('DEL', SCRATCH)
    return call('BITCOUNT', key)
  end
  line.waiting = take_over(line.line, known.base, known.waiting)
  line.called = take_over(line.call, known.called_base, known.called)
  Bits.join(line.seen, foreign(line, known.base, known.waiting, from, to))
  if known.complete then
    line.from = to
  else
    Bits.join(line.heard, foreign(line, known.base, known.waiting, from, to))
    Bits.join(line.heard, foreign(line, known.called_base, known.called, from, to))
  end
  if line.from >= line.to then Line.settle(line) end
  line.head = min(line.head, first_waiting(line, from))
  note_restored(line, before, from, at)
end

-- Ends the doubt.
function Line.settle(line)
  if Line.in_doubt(line) then
    line.from, line.to = 0, 0
    call('DEL', line.heard)
  end
end
