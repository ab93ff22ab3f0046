-- arrive: gives each newcomer a number, then ticks; those whose turn is here already are let in.
--
-- ARGV from 4: runs of newcomers, '*n' for n of them, '=subject' or '+subject' (anew) for one known by 16 bytes.
-- Answers runs of five: kind (0 waiting, 1 admitted, 2 gone), generation, number, count, value. The value is the
-- first one's position, or the time until which all of them are inside.

local WAITING, ADMITTED, GONE = 0, 1, 2
-- As many sessions as one command takes.
local CHUNK = 1000
-- So many users need not be looked at for whether their places are held.
local FEW_USERS = 1024

-- The place a user already holds, or a new one: generation, number.
local function place_for(room, subject, anew)
  local generation, number = users().find(subject)
  if generation and Room.is_held(room, generation, number) then
    if not anew or Room.session_until(Room.place_of(generation, number)) then return generation, number end
    Room.remove_from_line(room, generation, number)
  end
  local line = Room.current(room)
  number = Line.give(line, 1)
  users().put(subject, line.generation, number)
  return line.generation, number
end

-- The same for numbers given just now, first..first+count: they were called in order, or wait in order.
local function present_newcomers(room, answers, run, now)
  local line, first, count = Room.current(room), run.first, run.count
  local generation = line.generation
  if not run.fits then
    return Room.answer(answers, GONE, generation, first, count, 0)
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
          pairs_[#pairs_ + 1] = until_
          pairs_[#pairs_ + 1] = Room.place_of(generation, number)
        end
        call('ZADD', SESSIONS, unpack(pairs_))
      end
      room.inside = nil
    end
    Room.answer(answers, ADMITTED, generation, first, admitted, until_)
  end
  if admitted < count then
    local number = first + admitted
    Room.answer(answers, WAITING, generation, number, count - admitted, Room.position(room, line, number))
  end
end

local room, now = Room.begin()
if not room then return Room.no_room() end
-- First, so that the time before they came does not count as time in which they waited.
Room.tick(room, now)
local runs = {}
-- How many users were known before, where users came.
local known
for index = 4, #ARGV do
  local run = ARGV[index]
  local kind = sub(run, 1, 1)
  if kind == '*' then
    local count = tonumber(sub(run, 2))
    local first, fits = Line.give(Room.current(room), count)
    runs[#runs + 1] = { first = first, count = count, fits = fits }
  else
    known = known or users().count()
    local generation, number = place_for(room, sub(run, 2), kind == '+')
    runs[#runs + 1] = { generation = generation, first = number }
  end
end
Room.call(room, now)
local answers = {}
for _, run in ipairs(runs) do
  if run.count then
    present_newcomers(room, answers, run, now)
  else
    Room.present(room, answers, Room.place_of(run.generation, run.first), run.generation, run.first, now)
  end
end
-- For each that came some others are looked at, once most of them can hold nothing any more: so there are never many
-- more of these than of those who do.
if known then
  users().save()
  local new = users().count() - known
  local held = Room.waiting(room) + Room.called(room) + Room.sessions(room)
  if new > 0 and users().count() > FEW_USERS + 2 * held then Room.sweep_users(room, 4 * new) end
end
Room.save(room)
return answers
