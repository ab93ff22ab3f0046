-- observe: the tick. Takes in who was heard of and, while healing, what a replica last knew; answers the snapshot.
--
-- ARGV[4]: 'epoch count' of the revocations that the replica has. ARGV[5]: how many beats; then for each
-- generation, base, bytes. After them, if the replica knows better: floor, whether paused, an operator's limits, when
-- both were done, how many lines, and for each
-- 'generation next head complete', base and bytes of those waiting, base and bytes of those called.

local room, now = Room.begin()
if not room then return Room.no_room() end
local beats = tonumber(ARGV[5])
local known = 6 + 3 * beats
if ARGV[known] then healing().restore(room, known, now) end
for index = 6, known - 1, 3 do
  local line = Room.line(room, tonumber(ARGV[index]))
  if line then
    local base, bytes = tonumber(ARGV[index + 1]), ARGV[index + 2]
    Line.hear_all(line, base, bytes)
    Room.hear_all_away(room, line, base, bytes)
  end
end
Room.give_up_away(room, now)
Room.tick(room, now)
Room.forget_who_is_gone(room)
Room.save(room)

-- The bitmap from the word that holds `from` on: base, bytes.
local function view(line, key, count, from)
  if count == 0 then return from - from % 64, '' end
  from = from - from % 64
  return from, call('GETRANGE', key, (from - line.base) / 8, -1)
end

local lines = {}
for _, line in ipairs(room.lines) do
  local waiting_base, waiting = view(line, line.line, line.waiting, max(line.head, line.base))
  local first = line.called > 0 and Bits.next_from(line.call, 0) or 0
  local called_base, called = view(line, line.call, line.called, line.base + first)
  local first_away = Room.first_away(room, line)
  local away_base, away = view(line, line.away, first_away and 1 or 0, line.base + (first_away or 0))
  lines[#lines + 1] = {
    line.generation, line.next, line.head, Line.in_doubt(line) and 1 or 0,
    waiting_base, waiting, called_base, called, away_base, away,
  }
end

-- Revocations since those the replica has; all of them where it has others.
local epoch, count = string.match(ARGV[4], '^(%d+) (%d+)$')
local missing = room.revocations - tonumber(count)
local goes_on = tonumber(epoch) == room.epoch and missing >= 0 and missing <= call('LLEN', REVOKED_LOG)
local revoked
if not goes_on then
  revoked = call('ZRANGE', REVOKED, 0, -1, 'WITHSCORES')
elseif missing > 0 then
  revoked = call('LRANGE', REVOKED_LOG, -missing, -1)
else
  revoked = {}
end
return {
  room.clock, room.floor, room.paused, room.clock < room.doubt and room.lost or 0, Room.sessions(room),
  room.epoch, room.revocations, goes_on and 1 or 0, revoked,
  room.history_at, room.history, room.policy, room.limits, lines, room.lost, room.ousted or '', room.controls,
}
