-- Pages that go away: the twin of src/room/away.rs and src/room/state/away.rs.
--
-- AWAY holds place → due; the bitmap `away` of each line, who of them was not heard of since.

do

-- The most places noted at once, and the most that leave in one tick.
local MAX_AWAY, MAX_LEAVING = 65536, 1000
-- After this long without a tick, nobody can have been heard of.
local GAP = 5000

-- How many are noted; counted once a call, as nearly always it is nobody.
local function noted(room)
  room.noted = room.noted or call('ZCARD', AWAY)
  return room.noted
end

function Room.forget_away(room)
  if noted(room) == 0 then return end
  call('DEL', AWAY)
  for _, line in ipairs(room.lines) do call('DEL', line.away) end
  room.noted = 0
end

function Room.forget_away_after_gap(room, now)
  if now - room.clock > min(GAP, Room.period(room)) then Room.forget_away(room) end
end

-- Notes that a place is away until it is given up at `due`; 0 if it is not in line, or too many are noted.
function Room.note_away(room, place, due)
  local generation, number = Room.place(place)
  local line = Room.line(room, generation)
  if not (line and Line.seat(line, number)) then return 0 end
  local before = tonumber(call('ZSCORE', AWAY, place) or nil)
  if not before and noted(room) >= MAX_AWAY then return 0 end
  room.noted = noted(room) + call('ZADD', AWAY, max(due, before or 0), place)
  call('SETBIT', line.away, number - line.base, 1)
  return 1
end

-- Somebody showed the ticket of a number in line.
function Room.hear_of_away(room, line, number)
  if noted(room) > 0 then Bits.remove(line.away, number - line.base) end
end

-- The members of `bytes` were heard of.
function Room.hear_all_away(room, line, base, bytes)
  if noted(room) == 0 then return end
  local first, part = Line.foreign(line, base, bytes, line.base, line.next)
  if part == '' then return end
  call('SETRANGE', SCRATCH, first, part)
  call('BITOP', 'OR', line.away, line.away, SCRATCH)
  call('BITOP', 'XOR', line.away, line.away, SCRATCH)
  call('DEL', SCRATCH)
end

-- Gives up those whose grace is over.
function Room.give_up_away(room, now)
  if noted(room) == 0 then return end
  local due = call('ZRANGE', AWAY, '-inf', now, 'BYSCORE', 'LIMIT', 0, MAX_LEAVING)
  if #due == 0 then return end
  for _, place in ipairs(due) do
    local generation, number = Room.place(place)
    local line = Room.line(room, generation)
    if line and Bits.remove(line.away, number - line.base) and Line.seat(line, number) then
      Room.leave_one(room, place, nil, now)
    end
  end
  room.noted = room.noted - call('ZREM', AWAY, unpack(due))
  if room.noted == 0 then
    for _, line in ipairs(room.lines) do call('DEL', line.away) end
  end
end

-- Whoever has entered, left or run out is not away any more.
function Room.forget_who_is_gone(room)
  if noted(room) == 0 then return end
  for _, line in ipairs(room.lines) do
    call('BITOP', 'OR', SCRATCH, line.line, line.call)
    call('BITOP', 'AND', line.away, line.away, SCRATCH)
    call('DEL', SCRATCH)
  end
end

-- Who of a line is away, for the snapshot: the offset of the first; nil: nobody.
function Room.first_away(room, line)
  return noted(room) > 0 and Bits.next_from(line.away, 0) or nil
end

end
