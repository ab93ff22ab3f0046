-- A room as it is loaded, changed and saved by one script: the twin of src/room/state.rs.

do

-- Marks of calls kept per line, about: they are this part of a claim_ttl apart at least.
local MARKS = 65536
-- How long a room is kept that nobody is in: a week.
local KEEP_MS = 604800000
-- How far the clock may be behind a room's last tick before the room goes back with it.
local SMALL_STEP = 1000
-- The form that rooms are saved in. Whoever changes it, or that of a line, counts on: replicas of two versions must
-- not misread each other's rooms.
local VERSION = 1
-- Version; clock, floor, paused, credits and when, last rotation, hold, loss, doubt and slotless until, epoch,
-- revocations, sweep, newest bucket of the history; and the limits in force, as their texts say: capacity, gain, burst,
-- session_ttl, claim_ttl, patience, off.
local FORM = '>' .. rep('d', 22)
local LIMITS = '^(%-?%d+) (%-?%d+) (%-?%d+)'
local POLICY = LIMITS .. ' (%d+) (%d+) (%d+) (%d+)'

-- The limits in force from the texts of policy and operator's limits. Each begins with a line of numbers, -1 for
-- none; what follows is for those who show it.
local function apply_texts(room)
  local capacity, gain, burst, session_ttl, claim_ttl, patience, off = string.match(room.policy, POLICY)
  if room.limits ~= '' then
    local own_capacity, own_gain, own_burst = string.match(room.limits, LIMITS)
    if own_capacity ~= '-1' then capacity = own_capacity end
    if own_gain ~= '-1' then gain = own_gain end
    if own_burst ~= '-1' then burst = own_burst end
  end
  -- `gain`: credit units per millisecond.
  room.capacity, room.gain, room.burst = tonumber(capacity), tonumber(gain), tonumber(burst)
  room.session_ttl, room.claim_ttl, room.patience = tonumber(session_ttl), tonumber(claim_ttl), tonumber(patience)
  room.off = tonumber(off)
end

-- Revocations are counted within an epoch: what replicas know of another one is worth nothing.
local function begin_epoch(room)
  local time = call('TIME')
  room.epoch = time[1] * 1000000 + time[2]
  room.revocations = 0
end

local function create(policy, now)
  local room = {
    clock = now, floor = 0, paused = 0, credits_at = now, rotated = now, hold = 0, lost = now, slotless = 0,
    sweep = 0, policy = policy, limits = '', controls = '', history_at = 0, history = '', lines = {}, saved = {},
  }
  -- What a lost hash may have left behind.
  call('DEL', SESSIONS, REVOKED, REVOKED_LOG, USERS, OLD_USERS, AWAY)
  for slot = 3, 0, -1 do room.lines[1] = Line.new(slot, max(now, 1)) end
  apply_texts(room)
  begin_epoch(room)
  room.credits = room.burst * CREDIT
  room.doubt = now + 2 * room.patience
  return room
end

local function load()
  local values = call('HMGET', ROOM, 'home', 'state', 'policy', 'limits', 'history', 'line0', 'line1', 'line2', 'line3',
    'controls')
  if not values[2] then return nil end
  local version = struct.unpack('>d', values[2])
  if version ~= VERSION then
    error('the room was saved in form ' .. version .. ', and this version of Anteroom knows form ' .. VERSION)
  end
  local lines, _ = {}, nil
  for slot = 0, 3 do
    local text = values[6 + slot]
    if text and text ~= '' then lines[#lines + 1] = Line.parse(slot, text) end
  end
  if #lines > 1 then
    table.sort(lines, function(one, other) return one.generation < other.generation end)
  end
  local room = {
    home = values[1], policy = values[3], limits = values[4], history = values[5], controls = values[10] or '',
    lines = lines, saved = values,
  }
  _, room.clock, room.floor, room.paused, room.credits, room.credits_at, room.rotated, room.hold, room.lost, room.doubt,
    room.slotless, room.epoch, room.revocations, room.sweep, room.history_at, room.capacity, room.gain, room.burst,
    room.session_ttl, room.claim_ttl, room.patience, room.off = struct.unpack(FORM, values[2])
  return room
end

function Room.save(room)
  -- A room nobody is in goes by itself in the end, unless an operator has set something.
  local goes = room.paused == 0 and room.limits == '' and Room.is_quiet(room)
  if goes then
    for _, line in ipairs(room.lines) do Line.trim(line, true) end
  end
  local texts = {
    room.home,
    struct.pack(FORM, VERSION, room.clock, room.floor, room.paused, room.credits, room.credits_at, room.rotated, room.hold,
      room.lost, room.doubt, room.slotless, room.epoch, room.revocations, room.sweep, room.history_at, room.capacity,
      room.gain, room.burst, room.session_ttl, room.claim_ttl, room.patience, room.off),
    room.policy, room.limits, room.history, '', '', '', '', room.controls,
  }
  for _, line in ipairs(room.lines) do texts[6 + line.slot] = Line.text(line) end
  local names = { 'home', 'state', 'policy', 'limits', 'history', 'line0', 'line1', 'line2', 'line3', 'controls' }
  local changed = {}
  for index = 1, 10 do
    if room.saved[index] ~= texts[index] then
      changed[#changed + 1] = names[index]
      changed[#changed + 1] = texts[index]
    end
  end
  if #changed > 0 then call('HSET', ROOM, unpack(changed)) end
  -- The hash first: what outlives it is deleted where the room is made anew.
  if goes then
    for _, key in ipairs(KEYS) do call('PEXPIRE', key, KEEP_MS) end
  elseif room.leaves then
    for _, key in ipairs(KEYS) do call('PERSIST', key) end
  end
end

function Room.line(room, generation)
  for _, line in ipairs(room.lines) do
    if line.generation == generation then return line end
  end
end

function Room.current(room)
  return room.lines[#room.lines]
end

-- Keeps the lines that are to be kept; the others' slots are free again.
function Room.keep_lines(room, keep)
  local kept = {}
  for _, line in ipairs(room.lines) do
    if keep(line) then kept[#kept + 1] = line else Line.clear(line) end
  end
  room.lines = kept
end

function Room.waiting(room)
  local count = 0
  for _, line in ipairs(room.lines) do count = count + line.waiting end
  return count
end

function Room.called(room)
  local count = 0
  for _, line in ipairs(room.lines) do count = count + line.called end
  return count
end

-- How many are inside; counted once for as long as nobody comes or goes.
function Room.sessions(room)
  room.inside = room.inside or call('ZCARD', SESSIONS)
  return room.inside
end

function Room.is_quiet(room)
  return Room.waiting(room) == 0 and Room.called(room) == 0 and Room.sessions(room) == 0 and call('ZCARD', REVOKED) == 0
end

-- The time that calls made now are noted for: so coarse that there are never too many marks.
function Room.mark_time(room, now)
  local grain = math.ceil(room.claim_ttl / MARKS)
  return math.ceil(now / grain) * grain
end

function Room.refill(room, now)
  local elapsed = max(now - room.credits_at, 0)
  room.credits_at = max(room.credits_at, now)
  room.credits = min(room.credits + max(room.gain, 0) * elapsed, room.burst * CREDIT)
end

local function apply_limits(room, now)
  -- What has come until now came at the old rate.
  Room.refill(room, now)
  local capacity, session_ttl = room.capacity, room.session_ttl
  apply_texts(room)
  if room.capacity >= 0 and capacity < 0 then
    -- Whoever is inside already has a pass but no slot.
    room.slotless = now + session_ttl
  end
end

-- When a room was paused or resumed last, and when an operator's limits were set or cleared; 0: never.
function Room.times_of(controls)
  local paused_at, limits_at = string.match(controls, '^(%d+) (%d+)$')
  return tonumber(paused_at or 0), tonumber(limits_at or 0)
end

-- Pauses or resumes the room.
function Room.pause(room, paused, at)
  local _, limits_at = Room.times_of(room.controls)
  room.paused, room.controls = paused, int(at) .. ' ' .. int(limits_at)
end

-- Puts an operator's limits above the policy's.
function Room.limit(room, limits, at, now)
  local paused_at = Room.times_of(room.controls)
  room.limits, room.controls = limits, int(paused_at) .. ' ' .. int(at)
  apply_limits(room, now)
end

function Room.reset(room, now)
  local generation = max(Room.current(room).generation + 1, now)
  Room.keep_lines(room, function() return false end)
  room.lines = { Line.new(0, generation) }
  room.floor, room.inside, room.noted = generation, nil, nil
  call('DEL', SESSIONS, REVOKED, REVOKED_LOG, OLD_USERS, AWAY)
  users().clear()
  begin_epoch(room)
  room.history_at, room.history = 0, ''
  room.hold, room.doubt, room.slotless = 0, 0, 0
end

-- Whether a key that must hold something is gone: deleted by hand, or thrown away by a server that is full.
local function is_lost(key, count)
  return count > 0 and call('EXISTS', key) == 0
end

-- Begins an operation: loads or makes the room, wakes it on a server that is not the one that saved it, and takes in
-- what the replica says. Room and now; nil where there is no room and nobody states its limits.
function Room.begin()
  local now = tonumber(ARGV[1])
  if not now then
    local time = call('TIME')
    now = time[1] * 1000 + floor(time[2] / 1000)
  end
  -- The run_id of this server: that of the connection, as asking for it here (INFO) would take a sixth of the time.
  local home = table.remove(ARGV)
  local policy = ARGV[3]
  local room = load()
  if not room then
    if policy == '' then return nil end
    room = create(policy, now)
  else
    room.leaves = Room.is_quiet(room)
    if room.clock - now > SMALL_STEP then healing().go_back(room, room.clock - now) end
    if room.home ~= home then
      -- A replica that was promoted, or a copy from a disk: its last writes may be missing.
      healing().resume(room, now)
      begin_epoch(room)
    end
  end
  room.home = home
  now = max(now, room.clock)
  for _, line in ipairs(room.lines) do
    if is_lost(line.line, line.waiting) or is_lost(line.call, line.called) or is_lost(line.calls, line.called) then
      healing().lose_bitmaps(room, line, now)
    end
  end
  if policy ~= '' and policy ~= room.policy then
    room.ousted, room.policy = room.policy, policy
    apply_limits(room, now)
  end
  Room.forget_away_after_gap(room, now)
  local generation, next, head, lowest = string.match(ARGV[2], '^(%d+) (%d+) (%d+) (%d+)$')
  generation, next, head, lowest = tonumber(generation), tonumber(next), tonumber(head), tonumber(lowest)
  local line = Room.current(room)
  local is_news = generation ~= line.generation or next > line.next or min(head, line.next) > line.reached
  if lowest > room.floor or (generation > 0 and is_news) then
    healing().take_hints(room, generation, next, head, lowest, now)
  end
  return room, now
end

function Room.no_room()
  return redis.error_reply('NOROOM nobody has stated limits for this room yet')
end

end
