-- away: notes that the pages of places are going away.
--
-- ARGV from 4: place and grace in milliseconds, for each. Answers 1 for each that was noted, else 0.

local room, now = Room.begin()
if not room then return Room.no_room() end
Room.tick(room, now)
local answers = {}
for index = 4, #ARGV, 2 do
  answers[#answers + 1] = Room.note_away(room, ARGV[index], now + tonumber(ARGV[index + 1]))
end
Room.save(room)
return answers
