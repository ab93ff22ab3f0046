-- control: does what an operator asks.
--
-- ARGV[4]: pause, resume, limits or reset; ARGV[5]: the limits' text.

local room, now = Room.begin()
if not room then return Room.no_room() end
local what = ARGV[4]
if what == 'pause' then
  room.paused = 1
elseif what == 'resume' then
  room.paused = 0
elseif what == 'limits' then
  Room.limit(room, ARGV[5], now)
elseif what == 'reset' then
  Room.reset(room, now)
end
Room.tick(room, now)
Room.save(room)
return 'OK'
