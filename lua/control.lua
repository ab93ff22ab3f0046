-- control: does what an operator asks.
--
-- ARGV[4]: pause, resume, limits or reset; ARGV[5]: the limits' text.

local room, now = Room.begin()
if not room then return Room.no_room() end
local what = ARGV[4]
local paused_at, limits_at = Room.times_of(room.controls)
-- After the one before it even where the clock was set back, so that of two the later one is known.
if what == 'pause' then
  Room.pause(room, 1, max(now, paused_at + 1))
elseif what == 'resume' then
  Room.pause(room, 0, max(now, paused_at + 1))
elseif what == 'limits' then
  Room.limit(room, ARGV[5], max(now, limits_at + 1), now)
elseif what == 'reset' then
  Room.reset(room, now)
end
Room.tick(room, now)
Room.save(room)
return 'OK'
