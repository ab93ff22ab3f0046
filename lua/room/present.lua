-- What one visitor's call does: showing a place, giving it up. The twin of src/room/state/visit.rs, with the scripts
-- of the operations. A place as text is 'generation:number'.

do

local WAITING, ADMITTED, GONE = 0, 1, 2

function Room.place(place)
  local generation, number = string.match(place, '^(%d+):(%d+)$')
  return tonumber(generation), tonumber(number)
end

function Room.place_of(generation, number)
  return string.format('%d:%d', generation, number)
end

function Room.session_until(place)
  return tonumber(call('ZSCORE', SESSIONS, place) or nil)
end

function Room.revoked_until(place)
  return tonumber(call('ZSCORE', REVOKED, place) or nil)
end

-- Holds a place until; one held longer already stays so. Its end.
function Room.hold(room, key, place, until_)
  until_ = max(until_, tonumber(call('ZSCORE', key, place) or nil) or 0)
  call('ZADD', key, until_, place)
  room.inside = nil
  return until_
end

function Room.is_held(room, generation, number)
  local line = Room.line(room, generation)
  return (line and Line.seat(line, number) or Room.session_until(Room.place_of(generation, number))) ~= nil
end

function Room.remove_from_line(room, generation, number)
  local line = Room.line(room, generation)
  return line and Line.remove(line, number)
end

-- Where `number` of `line` stands in the room's whole line.
function Room.position(room, line, number)
  local before = 0
  for _, older in ipairs(room.lines) do
    if older.generation >= line.generation then break end
    before = before + older.waiting
  end
  return before + Line.ahead_of(line, number) + 1
end

function Room.answer(answers, kind, generation, number, count, value)
  local at = #answers
  answers[at + 1], answers[at + 2], answers[at + 3] = kind, generation, number
  answers[at + 4], answers[at + 5] = count, value
end

-- Answers where a place stands now, entering it if it was called.
function Room.present(room, answers, place, generation, number, now)
  if generation < room.floor or Room.revoked_until(place) then
    return Room.answer(answers, GONE, generation, number, 1, 0)
  end
  local until_ = Room.session_until(place)
  if until_ then return Room.answer(answers, ADMITTED, generation, number, 1, until_) end
  local line = Room.line(room, generation)
  local seat = line and Line.seat(line, number)
  if seat then Room.hear_of_away(room, line, number) end
  if not seat then
    Room.answer(answers, GONE, generation, number, 1, 0)
  elseif seat == 'waiting' then
    Line.hear(line, number)
    Room.answer(answers, WAITING, generation, number, 1, Room.position(room, line, number))
  else
    until_ = now + room.session_ttl
    if room.capacity >= 0 then
      Line.remove(line, number)
      Room.hold(room, SESSIONS, place, until_)
    end
    Room.answer(answers, ADMITTED, generation, number, 1, until_)
  end
end

-- Gives up a place in line by its ticket, or a session as well by its pass (`pass_until`); 1 if that freed anything.
function Room.leave_one(room, place, pass_until, now)
  local generation, number = Room.place(place)
  -- Whoever throws their ticket away once inside stays inside.
  local held = pass_until and Room.session_until(place)
  if held then
    call('ZREM', SESSIONS, place)
    room.inside = nil
  end
  local seat = Room.remove_from_line(room, generation, number)
  local line = Room.line(room, generation)
  if line and (Line.in_doubt(line) or number >= line.next) then
    local was_in_doubt = Line.in_doubt(line)
    healing().close(line, number)
    -- A token for a number that was not given yet proves that the line has lost something.
    if Line.in_doubt(line) and not was_in_doubt then healing().begin(room, now) end
  end
  -- Whoever keeps a copy of the pass must not get in with it, nor with a newer one.
  -- A pass ends later than its slot where the clock was set back between the two.
  local until_ = pass_until and max(pass_until, held or now + room.session_ttl)
  if until_ and until_ > now and generation >= room.floor then
    until_ = Room.hold(room, REVOKED, place, until_)
    call('RPUSH', REVOKED_LOG, place .. ':' .. int(until_))
    room.revocations = room.revocations + 1
  end
  return (held or seat) and 1 or 0
end

end
