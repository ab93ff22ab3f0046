-- leave: gives up places and sessions.
--
-- ARGV from 4: place and end of the pass, '' for a ticket, for each. Answers 1 for each that freed something, else 0.

-- Gives up a place in line by its ticket, or a session as well by its pass (`pass_until`); 1 if that freed anything.
local function leave_one(room, place, pass_until, now)
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
  local until_ = held or (pass_until and max(pass_until, now + room.session_ttl))
  if until_ and until_ > now and generation >= room.floor then
    until_ = Room.hold(room, REVOKED, place, until_)
    call('RPUSH', REVOKED_LOG, place .. ':' .. int(until_))
    room.revocations = room.revocations + 1
  end
  return (held or seat) and 1 or 0
end

local room, now = Room.begin()
if not room then return Room.no_room() end
Room.tick(room, now)
local freed = {}
for index = 4, #ARGV, 2 do
  freed[#freed + 1] = leave_one(room, ARGV[index], tonumber(ARGV[index + 1]), now)
end
Room.tick(room, now)
Room.save(room)
return freed
