-- The tick: what time alone does to a room. The twin of src/room/state/tick.rs, admission.rs and of History::note.

do

local HISTORY_BUCKET, HISTORY_BUCKETS = 10000, 90
-- The most that one tick calls.
local MAX_CALLS = 100000
-- About how many users are looked at, for whether their places are still held, when liveness rotates.
local SWEEP = 200

-- The bucket of the history that belongs to a time.
function Room.bucket(now)
  return floor(now / HISTORY_BUCKET)
end

local function read_bucket(history, age)
  if #history < (age + 1) * 8 then return 0, 0 end
  return struct.unpack('>I4I4', history, age * 8 + 1)
end

-- Notes that a line stood from `since` until `now`, and that `calls` were made at the end of it.
local function note_history(room, since, now, calls)
  local newest = Room.bucket(now)
  local steps = min(max(newest - room.history_at, 0), HISTORY_BUCKETS)
  local history = rep('\0', steps * 8) .. room.history
  if #history < 8 then history = rep('\0', 8) end
  room.history_at = max(room.history_at, newest)
  local until_, changed, age = now, {}, 0
  while age < HISTORY_BUCKETS do
    local start = max(room.history_at - age, 0) * HISTORY_BUCKET
    local made, busy = read_bucket(history, age)
    busy = busy + max(until_ - max(since, start), 0)
    if age == 0 then made = min(made + calls, 4294967295) end
    changed[#changed + 1] = struct.pack('>I4I4', made, busy)
    until_ = min(until_, start)
    age = age + 1
    if start <= since then break end
  end
  room.history = sub(table.concat(changed) .. sub(history, age * 8 + 1), 1, HISTORY_BUCKETS * 8)
end

-- How many may be called now.
local function quota(room)
  if room.off == 1 then return MAX_CALLS end
  local left = MAX_CALLS
  if room.gain >= 0 then left = min(left, room.gain == 0 and 0 or floor(room.credits / CREDIT)) end
  if room.capacity >= 0 then
    left = min(left, max(0, max(0, room.capacity - Room.sessions(room)) - Room.called(room)))
  end
  return left
end

-- Calls whom the limits allow; how many.
function Room.call(room, now)
  if room.paused == 1 or now < room.hold then return 0 end
  local left = Room.waiting(room) > 0 and quota(room) or 0
  local calls = 0
  for _, line in ipairs(room.lines) do
    local called = Line.call_next(line, left, Room.mark_time(room, now))
    left = left - called
    calls = calls + called
  end
  if room.gain >= 0 then room.credits = max(room.credits - calls * CREDIT, 0) end
  return calls
end

-- Forgets users whose places can never be held again, of about as many as are `wanted`.
function Room.sweep_users(room, wanted)
  room.sweep = users().sweep(room.sweep, wanted, function(generation, number)
    local line = Room.line(room, generation)
    return line and Line.in_doubt(line) or Room.is_held(room, generation, number)
  end)
end

function Room.period(room)
  return math.ceil(room.patience / 2)
end

local function rotate(room, since, now)
  local period = Room.period(room)
  if now - since > period then
    -- Nobody ticked for so long that nobody's heartbeat can have been taken in: silence proves nothing.
    for _, line in ipairs(room.lines) do Line.hear_everybody(line) end
  elseif now - room.rotated >= period then
    for _, line in ipairs(room.lines) do Line.rotate(line) end
  else
    return
  end
  room.rotated = now
  Room.sweep_users(room, SWEEP)
end

local function end_doubt(room, now)
  if now < room.doubt then return end
  for _, line in ipairs(room.lines) do
    if Line.in_doubt(line) then healing().settle(line) end
  end
  local current = Room.current(room)
  if #room.lines > 1 then
    Room.keep_lines(room, function(line) return line == current or line.waiting > 0 or line.called > 0 end)
  end
end

local function expire_revoked(now)
  if call('ZREMRANGEBYSCORE', REVOKED, '-inf', now) == 0 then return end
  -- The log is for replicas that have not heard yet; what has ended by itself they need not hear of.
  while true do
    local first = call('LINDEX', REVOKED_LOG, 0)
    if not first or tonumber(string.match(first, '(%d+)$')) > now then return end
    call('LPOP', REVOKED_LOG)
  end
end

-- Brings the room to `now`.
function Room.tick(room, now)
  local since = room.clock
  room.clock = now
  -- A pause says nothing about how fast the line moves without it.
  local line_stood = Room.waiting(room) > 0 and room.paused == 0
  if Room.sessions(room) > 0 then
    room.inside = room.inside - call('ZREMRANGEBYSCORE', SESSIONS, '-inf', now)
  end
  expire_revoked(now)
  if now >= room.claim_ttl then
    for _, line in ipairs(room.lines) do Line.expire_calls(line, now - room.claim_ttl) end
  end
  rotate(room, since, now)
  end_doubt(room, now)
  Room.refill(room, now)
  local calls = Room.call(room, now)
  if line_stood and (calls > 0 or now > since) then note_history(room, since, now, calls) end
end

end
