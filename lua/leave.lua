-- leave: gives up places and sessions.
--
-- ARGV from 4: place and end of the pass, '' for a ticket, for each. Answers 1 for each that freed something, else 0.

local room, now = Room.begin()
if not room then return Room.no_room() end
Room.tick(room, now)
local freed = {}
for index = 4, #ARGV, 2 do
  freed[#freed + 1] = Room.leave_one(room, ARGV[index], tonumber(ARGV[index + 1]), now)
end
Room.tick(room, now)
Room.save(room)
return freed
