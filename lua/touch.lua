-- touch: prolongs sessions.
--
-- ARGV from 4: place and end of the pass shown, for each. Answers the session's end for each; 0 where it is over.

local room, now = Room.begin()
if not room then return Room.no_room() end
Room.tick(room, now)
local ends = {}
for index = 4, #ARGV, 2 do
  ends[#ends + 1] = int(Room.touch_one(room, ARGV[index], tonumber(ARGV[index + 1]), now))
end
Room.save(room)
return ends
