-- A room as it is loaded, changed and saved by one script: the twin of src/room/state.rs.

local ROOM, SESSIONS, REVOKED, REVOKED_LOG, SUBJECTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
-- The most generations a room keeps at once.
local MAX_LINES = 4
-- One credit in the unit they are kept in.
local CREDIT = 3600000
-- Marks of calls kept per line, about: they are this much of a claim_ttl apart at least.
local MARKS = 65536
-- How long a room is kept that nobody is in: a week.
local KEEP_MS = 604800000

local FIELDS = {
  'home', 'clock', 'floor', 'paused', 'credits', 'credits_at', 'rotated', 'hold', 'lost', 'doubt', 'slotless',
  'epoch', 'revocations', 'sweep', 'policy', 'limits', 'history_at', 'history', 'line0', 'line1', 'line2', 'line3',
}
local TEXTS = { home = true, policy = true, limits = true, history = true }

local Room = {}

-- The limits in force from the texts of policy and operator's limits. Each begins with a line of numbers, -1 for
-- none; what follows is for those who show it.
local function apply_texts(room)
  local function numbers(text)
    local found = {}
    for number in string.gmatch(string.match(text, '^[^\n]*'), '%-?%d+') do found[#found + 1] = tonumber(number) end
    return found
  end
  local stated, limits = numbers(room.policy), numbers(room.limits)
  local function either(index) return (limits[index] or -1) >= 0 and limits[index] or stated[index] end
  -- `gain`: credit units per millisecond.
  room.capacity, room.gain, room.burst = either(1), either(2), either(3)
  room.session_ttl, room.claim_ttl, room.patience, room.off = stated[4], stated[5], stated[6], stated[7] == 1
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
    sweep = 0, policy = policy, limits = '', history_at = 0, history = '',
    lines = {}, saved = {},
  }
  -- What a lost hash may have left behind.
  call('DEL', SESSIONS, REVOKED, REVOKED_LOG, SUBJECTS)
  for slot = 3, 0, -1 do room.lines[1] = Line.new(slot, max(now, 1)) end
  apply_texts(room)
  begin_epoch(room)
  room.credits = room.burst * CREDIT
  room.doubt = now + 2 * room.patience
  return room
end

local function load()
  local values = call('HMGET', ROOM, unpack(FIELDS))
  if not values[2] then return nil end
  local room, saved = { lines = {} }, {}
  for index, field in ipairs(FIELDS) do
    local text = values[index] or nil
    saved[field] = text
    if string.sub(field, 1, 4) ~= 'line' then
      room[field] = TEXTS[field] and (text or '') or tonumber(text or 0)
    elseif text and text ~= '' then
      room.lines[#room.lines + 1] = Line.parse(tonumber(string.sub(field, 5)), text)
    end
  end
  table.sort(room.lines, function(one, other) return one.generation < other.generation end)
  room.saved = saved
  apply_texts(room)
  return room
end

function Room.save(room)
  local changed = {}
  local function put(field, text)
    if room.saved[field] ~= text then
      changed[#changed + 1] = field
      changed[#changed + 1] = text
    end
  end
  local texts = { line0 = '', line1 = '', line2 = '', line3 = '' }
  for _, line in ipairs(room.lines) do texts['line' .. line.slot] = Line.text(line) end
  for _, field in ipairs(FIELDS) do
    put(field, texts[field] or (TEXTS[field] and room[field]) or int(room[field]))
  end
  if #changed > 0 then call('HSET', ROOM, unpack(changed)) end
  -- A room nobody is in goes by itself in the end, unless an operator has set something.
  local leaves = Room.is_quiet(room) and room.paused == 0 and room.limits == ''
  if leaves then
    for _, line in ipairs(room.lines) do Line.trim(line, true) end
    call('PEXPIRE', ROOM, KEEP_MS)
  elseif room.leaves then
    call('PERSIST', ROOM)
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

function Room.free_slot(room)
  local taken = {}
  for _, line in ipairs(room.lines) do taken[line.slot] = true end
  for slot = 0, MAX_LINES - 1 do
    if not taken[slot] then return slot end
  end
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

function Room.sessions()
  return call('ZCARD', SESSIONS)
end

function Room.is_quiet(room)
  return Room.waiting(room) == 0 and Room.called(room) == 0 and Room.sessions() == 0 and call('ZCARD', REVOKED) == 0
end

-- The time that calls made now are noted for: so coarse that there are never too many marks.
function Room.mark_time(room, now)
  local grain = math.ceil(room.claim_ttl / MARKS)
  return math.ceil(now / grain) * grain
end


local function refill(room, now)
  local elapsed = max(now - room.credits_at, 0)
  room.credits_at = max(room.credits_at, now)
  room.credits = min(room.credits + max(room.gain, 0) * elapsed, room.burst * CREDIT)
end
Room.refill = refill

local function apply_limits(room, now)
  -- What has come until now came at the old rate.
  refill(room, now)
  local capacity, session_ttl = room.capacity, room.session_ttl
  apply_texts(room)
  if room.capacity >= 0 and capacity < 0 then
    -- Whoever is inside already has a pass but no slot.
    room.slotless = now + session_ttl
  end
end

-- Puts an operator's limits above the policy's.
function Room.limit(room, limits, now)
  room.limits = limits
  apply_limits(room, now)
end

function Room.reset(room, now)
  local generation = max(Room.current(room).generation + 1, now)
  Room.keep_lines(room, function() return false end)
  room.lines = { Line.new(0, generation) }
  room.floor = generation
  call('DEL', SESSIONS, REVOKED, REVOKED_LOG, SUBJECTS)
  begin_epoch(room)
  room.history_at, room.history = 0, ''
  room.hold, room.doubt, room.slotless = 0, 0, 0
end

-- Begins an operation: loads or makes the room, wakes it on a server that is not the one that saved it, and takes in
-- what the replica says. Room and now; nil where there is no room and nobody states its limits.
function Room.begin()
  local now = tonumber(ARGV[1])
  if not now then
    local time = call('TIME')
    now = time[1] * 1000 + floor(time[2] / 1000)
  end
  local home = string.match(call('INFO', 'server'), 'run_id:(%w+)')
  local generation, next, head, lowest = string.match(ARGV[2], '^(%d+) (%d+) (%d+) (%d+)$')
  local policy = ARGV[3]
  local room = load()
  if not room then
    if policy == '' then return nil end
    room = create(policy, now)
  else
    room.leaves = Room.is_quiet(room)
    if room.home ~= home then
      -- A replica that was promoted, or a copy from a disk: its last writes may be missing.
      Room.resume(room, now)
      begin_epoch(room)
    end
  end
  room.home = home
  now = max(now, room.clock)
  if policy ~= '' and policy ~= room.policy then
    room.policy = policy
    apply_limits(room, now)
  end
  Room.take_hints(room, tonumber(generation), tonumber(next), tonumber(head), tonumber(lowest), now)
  return room, now
end

function Room.no_room()
  return redis.error_reply('NOROOM nobody has stated limits for this room yet')
end
