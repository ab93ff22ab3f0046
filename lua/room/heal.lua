-- Healing: what a room does when part of its past was lost, or when somebody knows better. The twin of
-- src/room/state/heal.rs, and of what heals in src/room/line.rs.

local built

healing = function()
if built then return built end
local Heal = {}
built = Heal

-- The most generations a room keeps at once.
local MAX_LINES = 4
-- How long nobody is called after a loss.
local HOLD = 3000
-- How many members of a key are moved by one command.
local CHUNK = 1000
-- How many numbers a healed line leaves out beyond the highest it knows of.
local MARGIN = 65536
-- Beyond every number: all are exact in a double up to here.
local END = 9007199254740992
-- How far below a number its bitmap begins when it has to be moved down: so that it is not for each number anew.
local SLACK = 524288
-- How far bitmaps are moved down at most, in bytes: 16 million numbers. All of them are copied, and a ticket that
-- much older than what a line is known to have come to is of somebody long gone.
local MAX_GROWTH = 2097152

-- Where the bitmaps of an empty line begin, so that a number and those a little below it have an offset: a line that
-- comes back with high numbers only must not fill the memory below them.
local function base_for(number)
  return max(0, number - number % 64 - SLACK)
end

-- Moves the bitmaps so that a number has an offset; nil: it is too far from the others.
function Heal.reach(line, number)
  if number - line.base >= SPAN then Line.trim(line, true) end
  local keys = { line.line, line.seen, line.before, line.call, line.heard, line.away }
  local is_blank = line.waiting == 0 and line.called == 0 and call('EXISTS', line.heard) == 0
  if is_blank then
    call('DEL', unpack(keys))
    line.base = base_for(number)
  end
  if number < line.base then
    local base = base_for(number)
    local longest = 0
    for _, key in ipairs(keys) do longest = max(longest, call('STRLEN', key)) end
    local grow = (line.base - base) / 8
    if grow > MAX_GROWTH or (grow + longest) * 8 > SPAN then return nil end
    for _, key in ipairs(keys) do
      if call('EXISTS', key) == 1 then call('SET', key, rep('\0', grow) .. call('GET', key)) end
    end
    line.base = base
  end
  local at = number - line.base
  return at < SPAN and at or nil
end

function Heal.renew_calls(line, at)
  if line.marks == 0 then return end
  local _, upto = Line.mark(line, -1)
  call('DEL', line.calls)
  call('RPUSH', line.calls, int(at) .. ' ' .. int(upto))
  line.marks = 1
end

-- Numbers from `from` to below `to` may have been given without this line knowing.
function Heal.lose_from(line, from, to)
  local drained = line.head >= line.next
  -- Only what is here is marked, not the gap.
  Line.mark_fresh(line)
  line.next = max(line.next, to)
  line.fresh = line.next
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

-- A token proves that `number` was given, and so were all before it; one that far off proves nothing.
local function lose_upto(line, number)
  if number >= line.next and number < line.next + SPAN then
    Heal.lose_from(line, line.next, number + 1)
  end
end

-- Notes that what became of a number is known; false if it was already.
local function hear_of(line, number)
  local at = Line.reach(line, number)
  return at and Bits.insert(line.heard, at) or false
end

-- A ticket came in that the line does not know: takes it back in if it may have been lost. Whether it waits again.
local function recover(line, number)
  lose_upto(line, number)
  if not Line.in_doubt(line) or number < line.from or number >= line.to or not hear_of(line, number) then
    return false
  end
  local at = number - line.base
  if not Bits.insert(line.line, at) then return false end
  line.waiting = line.waiting + 1
  call('SETBIT', line.seen, at, 1)
  line.head, line.head_is_right = min(line.head, number), false
  return true
end

-- A number is known to have entered or left.
function Heal.close(line, number)
  lose_upto(line, number)
  -- Others come back in no way: memory for one far below would be wasted.
  if Line.in_doubt(line) and number >= line.from and number < line.to then hear_of(line, number) end
end

-- Ends the doubt.
function Heal.settle(line)
  line.from, line.to = 0, 0
  call('DEL', line.heard)
end

local function note_restored(line, before, from, at)
  if line.called > before then
    Line.note_call(line, from, line.base + Bits.after_nth(line.call, 0, line.called), at)
  end
end

-- The head is known to have been at `head` already.
local function catch_up_head(line, head, at)
  local start = line.head
  head = min(head, line.next)
  if head <= line.reached then return end
  local before = line.called
  if line.waiting > 0 then Line.move_to_called(line, start - line.base, min(head - line.base, SPAN)) end
  note_restored(line, before, start, at)
  line.head = Line.first_waiting(line, head)
  line.reached = line.head
end

-- Takes over what a replica last knew, for numbers in doubt that were not heard of since.
local function restore_line(line, known, at)
  if not Line.in_doubt(line) then return end
  local from, to = line.from, min(line.to, known.next)
  if from >= to then return end
  local before = line.called
  -- `from` may lie far below the first that the replica names.
  local lowest = to
  if known.waiting ~= '' then lowest = min(lowest, known.base) end
  if known.called ~= '' then lowest = min(lowest, known.called_base) end
  lowest = max(lowest, from)
  if lowest < to and not Line.reach(line, lowest) then return end
  local function take_over(key, base, bytes)
    local first, part = Line.foreign(line, base, bytes, lowest, to)
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
  Bits.join(line.seen, Line.foreign(line, known.base, known.waiting, lowest, to))
  if known.complete then
    line.from = to
  else
    Bits.join(line.heard, Line.foreign(line, known.base, known.waiting, lowest, to))
    Bits.join(line.heard, Line.foreign(line, known.called_base, known.called, lowest, to))
  end
  if line.from >= line.to then Heal.settle(line) end
  line.head = min(line.head, Line.first_waiting(line, from))
  note_restored(line, before, from, at)
end

function Heal.begin(room, now)
  room.hold = now + HOLD
  room.lost = now
  room.doubt = max(room.doubt, now + 2 * room.patience)
  room.credits, room.credits_at = 0, now
  -- Whoever could not be heard of meanwhile must not pay for it: they are silent, and patience does it.
  Room.forget_away(room)
end

-- Moves what stands in a sorted set so much down; the order stays.
local function move_ends(key, by)
  local from, some = 0, nil
  repeat
    some = call('ZRANGE', key, from, from + CHUNK - 1, 'WITHSCORES')
    local moved = {}
    for index = 1, #some, 2 do
      moved[index], moved[index + 1] = int(max(tonumber(some[index + 1]) - by, 0)), some[index]
    end
    if #moved > 0 then call('ZADD', key, unpack(moved)) end
    from = from + CHUNK
  until #some < 2 * CHUNK
end

local function move_calls(line, by)
  local marks = call('LRANGE', line.calls, 0, -1)
  call('DEL', line.calls)
  for from = 1, #marks, CHUNK do
    local moved = {}
    for index = from, min(from + CHUNK - 1, #marks) do
      local at, upto = string.match(marks[index], '^(%d+) (%d+)$')
      moved[#moved + 1] = int(max(tonumber(at) - by, 0)) .. ' ' .. upto
    end
    call('RPUSH', line.calls, unpack(moved))
  end
end

-- The clock was set back by so much, and the room goes back as far: moves every time that something waits for. What was
-- given out stays: generations, and the ends of revocations, which passes out there may still reach. Operators' times do
-- as well, as of two the later one counts.
function Heal.go_back(room, by)
  room.history_at = max(room.history_at - (Room.bucket(room.clock) - Room.bucket(room.clock - by)), 0)
  for _, time in ipairs({ 'clock', 'rotated', 'hold', 'doubt', 'slotless', 'credits_at' }) do
    room[time] = max(room[time] - by, 0)
  end
  move_ends(SESSIONS, by)
  move_ends(AWAY, by)
  for _, line in ipairs(room.lines) do move_calls(line, by) end
end

-- Wakes a room that was saved on another server. As many numbers as MARGIN may have been given since.
function Heal.resume(room, now)
  room.doubt = room.clock < room.doubt and now + 2 * room.patience or 0
  room.clock = now
  for _, line in ipairs(room.lines) do
    -- While the room was away nobody could be heard, or enter.
    Line.hear_everybody(line)
    Heal.renew_calls(line, now)
  end
  room.rotated = now
  local current = Room.current(room)
  Heal.lose_from(current, current.next, current.next + MARGIN)
  Heal.begin(room, now)
end

-- One of a line's bitmaps is gone: those it spoke of are in doubt, and come back with their tickets or from a replica.
function Heal.lose_bitmaps(room, line, now)
  local from = line.head
  if call('EXISTS', line.call) == 0 then
    if line.called > 0 then from = max(line.base, 1) end
    line.called = 0
  end
  if call('EXISTS', line.line) == 0 then line.waiting = 0 end
  -- Calls without their times hold as if they were made now.
  call('DEL', line.calls)
  line.marks = 0
  if line.called > 0 then
    call('RPUSH', line.calls, int(now) .. ' ' .. int(line.head))
    line.marks = 1
  end
  Heal.lose_from(line, from, line.next)
  Heal.begin(room, now)
end

-- Makes every generation below `lowest` void.
local function raise_floor(room, lowest)
  if lowest <= room.floor then return end
  room.floor = lowest
  Room.forget_away(room)
  Room.keep_lines(room, function(line) return line.generation >= lowest end)
  if #room.lines == 0 then room.lines = { Line.new(0, lowest) } end
  -- Once for each reset that was lost; of the sessions before it hardly one is not void.
  for _, member in ipairs(call('ZRANGE', SESSIONS, 0, -1)) do
    if Room.place(member) < lowest then call('ZREM', SESSIONS, member) end
  end
  room.inside = nil
  users().retain(function(generation) return generation >= lowest end)
end

local function free_slot(room)
  local taken = {}
  for _, line in ipairs(room.lines) do taken[line.slot] = true end
  for slot = 0, MAX_LINES - 1 do
    if not taken[slot] then return slot end
  end
end

-- Takes in the line of an unknown generation, of which numbers about `near` are known; nil if it is refused.
local function adopt(room, generation, near, is_lost, now)
  local newer = generation > Room.current(room).generation
  -- Where numbers end is known to nobody: a line that can give none is not to be the last.
  local exhausted = newer and is_lost
  local function kept(line) return not newer or line.next > 1 end
  local count = 0
  for _, line in ipairs(room.lines) do
    if kept(line) then count = count + 1 end
  end
  if count + (exhausted and 1 or 0) >= MAX_LINES or not (newer or now < room.doubt) then return nil end
  Room.keep_lines(room, kept)
  local line = Line.new(free_slot(room), generation)
  line.base = base_for(near)
  if is_lost then line.next, line.fresh, line.from, line.to = END, END, 1, END end
  table.insert(room.lines, line)
  table.sort(room.lines, function(one, other) return one.generation < other.generation end)
  if exhausted then
    table.insert(room.lines, Line.new(free_slot(room), max(generation + 1, now)))
  end
  Heal.begin(room, now)
  return line
end

-- Takes in what a replica has seen: the greater of both stands.
function Heal.take_hints(room, generation, next, head, lowest, now)
  raise_floor(room, lowest)
  if generation == 0 or generation < room.floor then return end
  local line = Room.line(room, generation)
  local beyond = min(next + MARGIN, END)
  if not line then
    line = adopt(room, generation, min(head, next), false, now)
    if not line then return end
    Heal.lose_from(line, 1, beyond)
  elseif next > line.next then
    Heal.lose_from(line, line.next, beyond)
    Heal.begin(room, now)
  end
  catch_up_head(line, head, Room.mark_time(room, now))
end

-- Gives a ticket that the room does not know its place back, if it may have been lost.
function Heal.recover_ticket(room, place, generation, number, now)
  if generation < room.floor or Room.is_held(room, generation, number) or Room.revoked_until(place) then return end
  local line = Room.line(room, generation) or adopt(room, generation, number, true, now)
  if not line then return end
  local was_in_doubt = Line.in_doubt(line)
  if recover(line, number) and not was_in_doubt then Heal.begin(room, now) end
end

-- Whether the session of a valid pass that the room does not know may have been lost, or never held a slot.
function Heal.recover_pass(room, generation, number, now)
  if now >= max(room.doubt, room.slotless) then return false end
  local line = Room.line(room, generation)
  if line then
    Line.remove(line, number)
    Heal.close(line, number)
  end
  return true
end

-- Takes over what a replica knows of operators' doings, where that is newer: pause and limits each for themselves.
local function restore_controls(room, paused, limits, controls, now)
  local known_paused_at, known_limits_at = Room.times_of(controls)
  local paused_at, limits_at = Room.times_of(room.controls)
  if known_paused_at > paused_at then Room.pause(room, paused, known_paused_at) end
  if known_limits_at > limits_at then Room.limit(room, limits, known_limits_at, now) end
end

-- Takes over what a replica last knew, where this room is in doubt or behind. Arguments from `index` on.
function Heal.restore(room, index, now)
  restore_controls(room, tonumber(ARGV[index + 1]), ARGV[index + 2], ARGV[index + 3], now)
  local lowest, count = tonumber(ARGV[index]), tonumber(ARGV[index + 4])
  index = index + 5
  for _ = 1, count do
    local generation, next, head, complete = string.match(ARGV[index], '^(%d+) (%d+) (%d+) (%d)$')
    generation, next, head = tonumber(generation), tonumber(next), tonumber(head)
    -- The replica's hints speak of its newest line only; this brings back the older ones, too.
    Heal.take_hints(room, generation, next, head, lowest, now)
    local line = Room.line(room, generation)
    if line then
      restore_line(line, {
        next = next, complete = complete == '1',
        base = tonumber(ARGV[index + 1]), waiting = ARGV[index + 2],
        called_base = tonumber(ARGV[index + 3]), called = ARGV[index + 4],
      }, Room.mark_time(room, now))
    end
    index = index + 5
  end
end

return Heal
end
