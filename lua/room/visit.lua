-- What one visitor's call does: taking a place, showing it, prolonging a session, giving it up. The twin of
-- src/room/state/visit.rs. A place as text is 'generation:number'.

local WAITING, ADMITTED, GONE = 0, 1, 2
-- As many sessions as one command takes.
local CHUNK = 1000

function Room.place(place)
  local generation, number = string.match(place, '^(%d+):(%d+)$')
  return tonumber(generation), tonumber(number)
end

local function place_of(generation, number)
  return string.format('%.0f:%.0f', generation, number)
end

local function session_until(place)
  return tonumber(call('ZSCORE', SESSIONS, place) or nil)
end

function Room.revoked_until(place)
  return tonumber(call('ZSCORE', REVOKED, place) or nil)
end

-- Holds a place until; one held longer already stays so. Its end.
local function hold(key, place, until_)
  until_ = max(until_, tonumber(call('ZSCORE', key, place) or nil) or 0)
  call('ZADD', key, int(until_), place)
  return until_
end

function Room.is_held(room, generation, number)
  local line = Room.line(room, generation)
  return (line and Line.seat(line, number) or session_until(place_of(generation, number))) ~= nil
end

local function remove_from_line(room, generation, number)
  local line = Room.line(room, generation)
  return line and Line.remove(line, number)
end

-- The place a subject already holds, or a new one: generation, number.
function Room.place_for(room, subject, anew)
  local held = call('HGET', SUBJECTS, subject)
  if held then
    local generation, number = Room.place(held)
    if Room.is_held(room, generation, number) then
      if not anew or session_until(held) then return generation, number end
      remove_from_line(room, generation, number)
    end
  end
  local line = Room.current(room)
  local number = Line.give(line, 1)
  call('HSET', SUBJECTS, subject, place_of(line.generation, number))
  return line.generation, number
end

-- Where `number` of `line` stands in the room's whole line.
local function position(room, line, number)
  local before = 0
  for _, older in ipairs(room.lines) do
    if older.generation >= line.generation then break end
    before = before + older.waiting
  end
  return before + Line.ahead_of(line, number) + 1
end

local function answer(answers, kind, generation, number, count, value)
  local at = #answers
  answers[at + 1], answers[at + 2], answers[at + 3] = kind, int(generation), int(number)
  answers[at + 4], answers[at + 5] = count, int(value)
end

-- Answers where a place stands now, entering it if it was called.
function Room.present(room, answers, place, generation, number, now)
  if generation < room.floor or Room.revoked_until(place) then
    return answer(answers, GONE, generation, number, 1, 0)
  end
  local until_ = session_until(place)
  if until_ then return answer(answers, ADMITTED, generation, number, 1, until_) end
  local line = Room.line(room, generation)
  local seat = line and Line.seat(line, number)
  if not seat then
    answer(answers, GONE, generation, number, 1, 0)
  elseif seat == 'waiting' then
    Line.hear(line, number)
    answer(answers, WAITING, generation, number, 1, position(room, line, number))
  else
    until_ = now + room.session_ttl
    if room.capacity >= 0 then
      Line.remove(line, number)
      hold(SESSIONS, place, until_)
    end
    answer(answers, ADMITTED, generation, number, 1, until_)
  end
end

-- The same for numbers given just now, first..first+count: they were called in order, or wait in order.
function Room.present_newcomers(room, answers, first, count, now)
  local line = Room.current(room)
  local generation = line.generation
  if not Line.seat(line, first) then
    return answer(answers, GONE, generation, first, count, 0)
  end
  local admitted = max(0, min(line.head - first, count))
  if admitted > 0 then
    local until_ = now + room.session_ttl
    if room.capacity >= 0 then
      Bits.clear(line.call, first - line.base, first - line.base + admitted)
      line.called = line.called - admitted
      for from = first, first + admitted - 1, CHUNK do
        local pairs_ = {}
        for number = from, min(from + CHUNK, first + admitted) - 1 do
          pairs_[#pairs_ + 1] = int(until_)
          pairs_[#pairs_ + 1] = place_of(generation, number)
        end
        call('ZADD', SESSIONS, unpack(pairs_))
      end
    end
    answer(answers, ADMITTED, generation, first, admitted, until_)
  end
  if admitted < count then
    local number = first + admitted
    answer(answers, WAITING, generation, number, count - admitted, position(room, line, number))
  end
end

-- Prolongs a session: its end; 0 if it is over.
function Room.touch_one(room, place, pass_until, now)
  local generation, number = Room.place(place)
  if generation < room.floor or Room.revoked_until(place) then return 0 end
  local until_ = now + room.session_ttl
  local limited = room.capacity >= 0
  if session_until(place) or (limited and pass_until > now and Room.recover_pass(room, generation, number, now)) then
    return hold(SESSIONS, place, until_)
  end
  return limited and 0 or until_
end

-- Gives up a place in line by its ticket, or a session as well by its pass (`pass_until`); 1 if that freed anything.
function Room.leave_one(room, place, pass_until, now)
  local generation, number = Room.place(place)
  -- Whoever throws their ticket away once inside stays inside.
  local held = pass_until and session_until(place)
  if held then call('ZREM', SESSIONS, place) end
  local seat = remove_from_line(room, generation, number)
  local line = Room.line(room, generation)
  if line then
    local was_in_doubt = Line.in_doubt(line)
    Line.close(line, number)
    -- A token for a number that was not given yet proves that the line has lost something.
    if Line.in_doubt(line) and not was_in_doubt then Room.begin_healing(room, now) end
  end
  -- Whoever keeps a copy of the pass must not get in with it, nor with a newer one.
  local until_ = held or (pass_until and max(pass_until, now + room.session_ttl))
  if until_ and until_ > now and generation >= room.floor then
    until_ = hold(REVOKED, place, until_)
    call('RPUSH', REVOKED_LOG, place .. ':' .. int(until_))
    room.revocations = room.revocations + 1
  end
  return (held or seat) and 1 or 0
end
