-- Healing: what a room does when part of its past was lost, or when somebody knows better. The twin of
-- src/room/state/heal.rs.

-- How long nobody is called after a loss.
local HOLD = 3000

local function begin_healing(room, now)
  room.hold = now + HOLD
  room.lost = now
  room.doubt = max(room.doubt, now + 2 * room.patience)
  room.credits, room.credits_at = 0, now
end
Room.begin_healing = begin_healing

-- Wakes a room that was saved on another server. As many numbers as MARGIN may have been given since.
function Room.resume(room, now)
  if room.clock > now then
    room.history_at, room.history = 0, ''
    room.hold = min(room.hold, now + HOLD)
  end
  room.doubt = room.clock < room.doubt and now + 2 * room.patience or 0
  room.credits, room.credits_at = 0, now
  room.clock = now
  for _, line in ipairs(room.lines) do
    -- While the room was away nobody could be heard, or enter.
    Line.hear_everybody(line)
    Line.renew_calls(line, now)
  end
  room.rotated = now
  local current = Room.current(room)
  Line.lose_from(current, current.next, current.next + MARGIN)
  begin_healing(room, now)
end

-- Makes every generation below `lowest` void.
local function raise_floor(room, lowest)
  if lowest <= room.floor then return end
  room.floor = lowest
  Room.keep_lines(room, function(line) return line.generation >= lowest end)
  if #room.lines == 0 then room.lines = { Line.new(0, lowest) } end
  -- Once for each reset that was lost; of the sessions before it hardly one is not void.
  for _, member in ipairs(call('ZRANGE', SESSIONS, 0, -1)) do
    if Room.place(member) < lowest then call('ZREM', SESSIONS, member) end
  end
  local subjects = call('HGETALL', SUBJECTS)
  for index = 1, #subjects, 2 do
    if Room.place(subjects[index + 1]) < lowest then call('HDEL', SUBJECTS, subjects[index]) end
  end
end

-- Takes in the line of an unknown generation; nil if it is refused.
local function adopt(room, generation, is_lost, now)
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
  local line = Line.new(Room.free_slot(room), generation)
  if is_lost then line.next, line.from, line.to = END, 1, END end
  table.insert(room.lines, line)
  table.sort(room.lines, function(one, other) return one.generation < other.generation end)
  if exhausted then
    table.insert(room.lines, Line.new(Room.free_slot(room), max(generation + 1, now)))
  end
  begin_healing(room, now)
  return line
end

-- Takes in what a replica has seen: the greater of both stands.
function Room.take_hints(room, generation, next, head, lowest, now)
  raise_floor(room, lowest)
  if generation == 0 or generation < room.floor then return end
  local line = Room.line(room, generation)
  local beyond = min(next + MARGIN, END)
  if not line then
    line = adopt(room, generation, false, now)
    if not line then return end
    Line.lose_from(line, 1, beyond)
  elseif next > line.next then
    Line.lose_from(line, line.next, beyond)
    begin_healing(room, now)
  end
  Line.catch_up_head(line, head, Room.mark_time(room, now))
end

-- Gives a ticket that the room does not know its place back, if it may have been lost.
function Room.recover_ticket(room, place, generation, number, now)
  if generation < room.floor or Room.is_held(room, generation, number) or Room.revoked_until(place) then return end
  local line = Room.line(room, generation) or adopt(room, generation, true, now)
  if not line then return end
  local was_in_doubt = Line.in_doubt(line)
  if Line.recover(line, number) and not was_in_doubt then begin_healing(room, now) end
end

-- Whether the session of a valid pass that the room does not know may have been lost, or never held a slot.
function Room.recover_pass(room, generation, number, now)
  if now >= max(room.doubt, room.slotless) then return false end
  local line = Room.line(room, generation)
  if line then
    Line.remove(line, number)
    Line.close(line, number)
  end
  return true
end

-- Takes over what a replica last knew, where this room is in doubt. Arguments from `index` on.
function Room.restore(room, index, now)
  local lowest, count = tonumber(ARGV[index]), tonumber(ARGV[index + 1])
  index = index + 2
  for _ = 1, count do
    local generation, next, head, complete = string.match(ARGV[index], '^(%d+) (%d+) (%d+) (%d)$')
    generation, next, head = tonumber(generation), tonumber(next), tonumber(head)
    -- The replica's hints speak of its newest line only; this brings back the older ones, too.
    Room.take_hints(room, generation, next, head, lowest, now)
    local line = Room.line(room, generation)
    if line then
      Line.restore(line, {
        next = next, complete = complete == '1',
        base = tonumber(ARGV[index + 1]), waiting = ARGV[index + 2],
        called_base = tonumber(ARGV[index + 3]), called = ARGV[index + 4],
      }, Room.mark_time(room, now))
    end
    index = index + 5
  end
end
