-- Who holds which place, in rooms of users: the twin of `subjects` in src/room/state.rs.
--
-- With a field for each user a hash takes 90 bytes for one. So LOAD of them share a field, a bucket, by linear hashing:
-- as users come, one bucket after the other is split in two, and nothing else is moved. A field is the number of a
-- bucket, its value entries of ENTRY bytes: a user's 16, generation and number in 7 each. The field SIZE tells how many
-- buckets and users there are, so that they and their number are lost together or not at all.

local built

users = function()
if built then return built end
local Users = {}
built = Users

local SIZE = 'size'
local LOAD = 6
local NAME, ENTRY = 16, 30
local PLACE = '>I7I7'
-- A bucket has 64 entries at most: only names that were made to collide come to that, and push each other out.
local FULL = 64 * ENTRY
-- Fields looked at in one step where all are, and the most users taken over from the form before.
local STEP, TAKEN_OVER = 1000, 65536

-- `level` is the greatest power of two that is not above `buckets`.
local buckets, count, level = 1, 0, 1
local saved

-- The bucket that an entry, or a name alone, belongs to. A name is a digest: its first bytes are as good as any.
local function bucket_of(name)
  local bucket = struct.unpack('>I4', name) % (2 * level)
  return bucket < buckets and bucket or bucket - level
end

local function read(bucket)
  return call('HGET', USERS, int(bucket)) or ''
end

local function write(bucket, entries)
  if entries == '' then call('HDEL', USERS, bucket) else call('HSET', USERS, bucket, entries) end
end

-- Where a user's entry begins; nil: there is none.
local function seek(entries, name)
  local at = string.find(entries, name, 1, true)
  -- What lies across others is none.
  while at and at % ENTRY ~= 1 do at = string.find(entries, name, at + 1, true) end
  return at
end

-- Splits the next bucket in two.
local function split()
  local from, to = buckets - level, buckets
  buckets = buckets + 1
  if buckets == 2 * level then level = buckets end
  local entries, stays, goes = read(from), {}, {}
  for at = 1, #entries, ENTRY do
    local entry = sub(entries, at, at + ENTRY - 1)
    local part = bucket_of(entry) == from and stays or goes
    part[#part + 1] = entry
  end
  if #goes > 0 then
    write(int(from), table.concat(stays))
    write(int(to), table.concat(goes))
  end
end

function Users.count()
  return count
end

-- Writes down how many there are, after changes.
function Users.save()
  local size = int(buckets) .. ' ' .. int(count)
  if count == 0 then
    if saved then Users.clear() end
  elseif size ~= saved then
    call('HSET', USERS, SIZE, size)
    saved = size
  end
end

-- The place noted for a user: generation, number; nil: none is.
function Users.find(name)
  local entries = read(bucket_of(name))
  local at = seek(entries, name)
  if not at then return nil end
  local generation, number = struct.unpack(PLACE, entries, at + NAME)
  return generation, number
end

-- Notes a user's place, in place of the one before.
function Users.put(name, generation, number)
  local bucket = bucket_of(name)
  local entries = read(bucket)
  local entry = name .. struct.pack(PLACE, generation, number)
  local at = seek(entries, name)
  if at then
    return write(int(bucket), sub(entries, 1, at - 1) .. entry .. sub(entries, at + ENTRY))
  end
  if #entries >= FULL then entries = sub(entries, ENTRY + 1) else count = count + 1 end
  write(int(bucket), entries .. entry)
  if count > LOAD * buckets then split() end
end

-- Looks at about `wanted` users from a cursor on and forgets those whose place `keep` does not want. The next cursor,
-- 0 at the end.
function Users.sweep(cursor, wanted, keep)
  if count == 0 then return 0 end
  local fields = math.ceil(wanted * min(1, buckets / count))
  local answer = call('HSCAN', USERS, int(cursor), 'COUNT', fields)
  for index = 1, #answer[2], 2 do
    local bucket, entries, kept = answer[2][index], answer[2][index + 1], {}
    if bucket ~= SIZE then
      for at = 1, #entries, ENTRY do
        local generation, number = struct.unpack(PLACE, entries, at + NAME)
        if keep(generation, number) then kept[#kept + 1] = sub(entries, at, at + ENTRY - 1) end
      end
      local gone = #entries / ENTRY - #kept
      if gone > 0 then
        count = max(0, count - gone)
        write(bucket, table.concat(kept))
      end
    end
  end
  Users.save()
  return tonumber(answer[1])
end

-- Forgets all whose place `keep` does not want.
function Users.retain(keep)
  local cursor = 0
  repeat cursor = Users.sweep(cursor, STEP, keep) until cursor == 0
end

-- Nobody is known any more.
function Users.clear()
  call('DEL', USERS, OLD_USERS)
  buckets, count, level, saved = 1, 0, 1, nil
end

-- Takes over users from the form before, a field for each.
local function take_over()
  local cursor, taken = 0, 0
  repeat
    local answer = call('HSCAN', OLD_USERS, int(cursor), 'COUNT', STEP)
    for index = 1, #answer[2], 2 do
      Users.put(answer[2][index], Room.place(answer[2][index + 1]))
      taken = taken + 1
    end
    cursor = tonumber(answer[1])
  until cursor == 0 or taken >= TAKEN_OVER
  call('DEL', OLD_USERS)
  Users.save()
end

saved = call('HGET', USERS, SIZE) or nil
if saved then
  buckets, count = string.match(saved, '^(%d+) (%d+)$')
  buckets, count = tonumber(buckets), tonumber(count)
  local _, exponent = math.frexp(buckets)
  level = 2 ^ (exponent - 1)
elseif call('EXISTS', OLD_USERS) == 1 then
  take_over()
end
return Users
end
