-- arrive: gives each newcomer a number, then ticks; those whose turn is here already are let in.
--
-- ARGV from 4: runs of newcomers, '*n' for n of them, '=subject' or '+subject' (anew) for one known by 16 bytes.
-- Answers runs of five: kind (0 waiting, 1 admitted, 2 gone), generation, number, count, value. The value is the
-- first one's position, or the time until which all of them are inside.

local room, now = Room.begin()
if not room then return Room.no_room() end
-- First, so that the time before they came does not count as time in which they waited.
Room.tick(room, now)
local runs = {}
for index = 4, #ARGV do
  local run = ARGV[index]
  local kind = sub(run, 1, 1)
  if kind == '*' then
    local count = tonumber(sub(run, 2))
    runs[#runs + 1] = { first = Line.give(Room.current(room), count), count = count }
  else
    local generation, number = Room.place_for(room, sub(run, 2), kind == '+')
    runs[#runs + 1] = { generation = generation, first = number }
  end
end
Room.call(room, now)
local answers = {}
for _, run in ipairs(runs) do
  if run.count then
    Room.present_newcomers(room, answers, run.first, run.count, now)
  else
    local place = string.format('%.0f:%.0f', run.generation, run.first)
    Room.present(room, answers, place, run.generation, run.first, now)
  end
end
Room.save(room)
return answers
