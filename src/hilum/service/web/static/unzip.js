// The members of a zip, one after another: the browser unpacks them, so each goes to the service as a film of its own and
// no archive is ever opened there. Layout: PKWARE APPNOTE 4.3.7 (local header), 4.3.12 (central), 4.3.16 (end).
export class BadZip extends Error {}

const END = 0x06054b50, CENTRAL = 0x02014b50, LOCAL = 0x04034b50;
const MOST_MEMBERS = 10_000, LARGEST_DIRECTORY = 16 * 2 ** 20, LARGEST_TOTAL = 64 * 2 ** 30;

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function checksum(crc, bytes) {
  for (let at = 0; at < bytes.length; at += 1) crc = TABLE[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
  return crc;
}

const read = async (file, from, to) => new DataView(await file.slice(from, to).arrayBuffer());

async function directory(file) {
  const from = Math.max(0, file.size - 65_557), tail = await read(file, from, file.size);
  let at = tail.byteLength - 22;
  while (at >= 0 && tail.getUint32(at, true) !== END) at -= 1;
  if (at < 0) throw new BadZip("The zip is cut off or damaged: it has no end. Make it again.");
  const count = tail.getUint16(at + 10, true), size = tail.getUint32(at + 12, true), start = tail.getUint32(at + 16, true);
  if (count === 0xffff || size === 0xffffffff || start === 0xffffffff) throw new BadZip("The zip is of the Zip64 kind. Send its folder instead.");
  if (tail.getUint16(at + 4, true) || count !== tail.getUint16(at + 8, true)) throw new BadZip("The zip is split over several files. Join them, or send its folder.");
  if (count > MOST_MEMBERS || size > LARGEST_DIRECTORY) throw new BadZip(`The zip has ${count} members, more than the ${MOST_MEMBERS} taken at once. Split it.`);
  if (start + size > from + at) throw new BadZip("The zip is damaged: its directory lies outside it. Make it again.");
  return { count, view: await read(file, start, start + size) };
}

function entries({ count, view }) {
  const found = [];
  for (let at = 0, n = 0; n < count; n += 1) {
    if (at + 46 > view.byteLength || view.getUint32(at, true) !== CENTRAL) throw new BadZip("The zip's directory is damaged. Make it again.");
    const length = view.getUint16(at + 28, true), next = at + 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (next > view.byteLength) throw new BadZip("The zip's directory is damaged. Make it again.");
    const name = new TextDecoder().decode(new Uint8Array(view.buffer, at + 46, length));
    if (!name.endsWith("/")) {
      found.push({
        name, flags: view.getUint16(at + 8, true), method: view.getUint16(at + 10, true), crc: view.getUint32(at + 16, true),
        packed: view.getUint32(at + 20, true), size: view.getUint32(at + 24, true), offset: view.getUint32(at + 42, true),
      });
    }
    at = next;
  }
  return found;
}

async function unpack(file, one, largest) {
  if (one.flags & 1) throw new BadZip("It is encrypted in the zip. Unpack it, then send it.");
  if (one.method !== 0 && one.method !== 8) throw new BadZip(`It is packed by method ${one.method}; stored and deflated are read. Unpack it, then send it.`);
  if (one.size > largest) throw new BadZip(`It has ${one.size} bytes, more than the ${largest} accepted.`);
  const head = await read(file, one.offset, one.offset + 30);
  if (head.byteLength < 30 || head.getUint32(0, true) !== LOCAL) throw new BadZip("Its place in the zip is damaged. Make the zip again.");
  const start = one.offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const slice = file.slice(start, start + one.packed);
  const stream = one.method ? slice.stream().pipeThrough(new DecompressionStream("deflate-raw")) : slice.stream();
  const parts = [], reader = stream.getReader();
  let size = 0, crc = 0xffffffff;
  try {
    for (let got = await reader.read(); !got.done; got = await reader.read()) {
      size += got.value.length;
      if (size > one.size) throw new BadZip("It unpacks to more than the zip says. It was not sent.");
      crc = checksum(crc, got.value);
      parts.push(got.value);
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    throw error instanceof BadZip ? error : new BadZip("It can't be unpacked. Make the zip again.");
  }
  if (size !== one.size || (~crc >>> 0) !== one.crc) throw new BadZip("It is damaged in the zip (size or checksum). Make the zip again.");
  return new Blob(parts);
}

// What is in a zip: names, sizes, and how to get each one's bytes. Names are shown and never used as paths.
export async function members(file, largest) {
  const found = entries(await directory(file));
  // Members that lie over each other are how a small zip becomes endless.
  if (found.reduce((sum, one) => sum + one.packed, 0) > file.size) throw new BadZip("The zip's members lie over each other. It was not opened.");
  if (found.reduce((sum, one) => sum + one.size, 0) > LARGEST_TOTAL) throw new BadZip("The zip unpacks to more than 64 GiB. Split it.");
  return found.map((one) => ({ name: one.name, size: one.size, open: () => unpack(file, one, largest) }));
}
