-- touch: prolongs sessions.
--
-- ARGV from 4: place and end of the pass shown, for each. Answers the session's end for each; 0 where it is over.

-- Prolongs a session: its end; 0 if it is over.
local function touch_one(room, place, pass_until, now)
  local generation, number = Room.place(place)
  if generation < room.floor or Room.revoked_until(place) then return 0 end
  local until_ = now + room.session_ttl
  local limited = room.capacity >= 0
  local is_inside = Room.session_until(place)
    or (limited and pass_until > now and healing().recover_pass(room, generation, number, now))
  if is_inside then
    return Room.hold(room, SESSIONS, place, until_)
  end
  return limited and 0 or until_
end

local room, now = Room.begin()
if not room then return Room.no_room() end
Room.tick(room, now)
local ends = {}
for index = 4, #ARGV, 2 do
  ends[#ends + 1] = touch_one(room, ARGV[index], tonumber(ARGV[index + 1]), now)
end
Room.save(room)
return ends
