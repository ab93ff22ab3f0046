-- enter: shows tickets. A called number becomes a session, a lost one gets its place back.
--
-- ARGV from 4: places, 'generation:number'. Answers as `arrive` does, one run each.

local room, now = Room.begin()
if not room then return Room.no_room() end
for index = 4, #ARGV do
  local generation, number = Room.place(ARGV[index])
  healing().recover_ticket(room, ARGV[index], generation, number, now)
end
Room.tick(room, now)
local answers = {}
for index = 4, #ARGV do
  local generation, number = Room.place(ARGV[index])
  Room.present(room, answers, ARGV[index], generation, number, now)
end
Room.save(room)
return answers
