// Draws a film with WebGL 2: 16-bit values as an integer texture, the window in the shader.
// Only the film's own rectangle is drawn; each of its canvas pixels is given its place among the level's pixels.
const VERTEX = `#version 300 es
uniform highp usampler2D film;
uniform mat3 onto;       // the film, 0 … 1 down each side, to the canvas, -1 … 1
out highp vec2 at;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  at = corner * vec2(textureSize(film, 0));
  gl_Position = vec4((onto * vec3(corner, 1.0)).xy, 0.0, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision highp float; precision highp int; precision highp usampler2D;
uniform usampler2D film;
uniform vec2 ends;       // low, and what of a step of grey one value is
uniform bool inverted, smoothly;
in highp vec2 at;
out vec4 colour;
float value(ivec2 place, ivec2 last) { return float(texelFetch(film, clamp(place, ivec2(0), last), 0).r); }
void main() {
  ivec2 last = textureSize(film, 0) - 1;
  float found;
  if (smoothly) {
    vec2 shifted = at - 0.5, first = floor(shifted), part = shifted - first;
    ivec2 i = ivec2(first);
    found = mix(mix(value(i, last), value(i + ivec2(1, 0), last), part.x),
                mix(value(i + ivec2(0, 1), last), value(i + ivec2(1, 1), last), part.x), part.y);
  } else found = value(ivec2(at), last);
  float grey = clamp((found - ends.x) * ends.y, 0.0, 1.0);
  colour = vec4(vec3(inverted ? 1.0 - grey : grey), 1.0);
}`;

// Where the processor imitates a graphics card, frames of a movement have so many canvas pixels a side less: most of the
// time goes into handing the canvas on, pixel by pixel. The frame after it is whole again.
const REDUCED = 0.5;

function shader(gl, kind, text) {
  const made = gl.createShader(kind);
  gl.shaderSource(made, text);
  gl.compileShader(made);
  return made;
}

function imitated(gl) {
  const told = gl.getExtension("WEBGL_debug_renderer_info");
  const name = String(gl.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  return /swiftshader|llvmpipe|software|basic render/i.test(name);
}

// True when WebGL 2 is there and no processor imitates it (that is slower than drawing plainly).
export function worthwhile() {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) return false;
  const slow = imitated(gl);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return !slow;
}

export class WebglRenderer {
  constructor(canvas, levels) {
    this.kind = "webgl2";
    this.canvas = canvas;
    this.levels = levels;
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
    if (!gl) throw new Error("WebGL 2 is not there.");
    this.gl = gl;
    this.imitated = imitated(gl);
    this.textures = new Map();
    this.program = gl.createProgram();
    gl.attachShader(this.program, shader(gl, gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(this.program, shader(gl, gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(this.program);
    if (!gl.getProgramParameter(this.program, gl.LINK_STATUS)) throw new Error("The shader can't be used.");
    const first = levels.list[0];
    if (Math.max(first.rows, first.columns) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error("Too large.");
    gl.useProgram(this.program);
    this.at = Object.fromEntries(
      ["film", "onto", "ends", "inverted", "smoothly"].map((name) => [name, gl.getUniformLocation(this.program, name)]),
    );
  }

  texture(level) {
    const { gl } = this;
    if (!this.textures.has(level)) {
      const made = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, made);
      gl.pixelStorei(gl.UNPACK_ALIGNMENT, 2);
      gl.texStorage2D(gl.TEXTURE_2D, 1, gl.R16UI, level.columns, level.rows);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, level.columns, level.rows, gl.RED_INTEGER, gl.UNSIGNED_SHORT, level.values);
      for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
      this.textures.set(level, made);
    }
    return this.textures.get(level);
  }

  // size: of the canvas on the screen, in its pixels; that the matrix leads to.
  draw(matrix, window, inverted, quick, size) {
    const { gl, at, canvas } = this, moving = quick && this.imitated, part = moving ? REDUCED : 1;
    const width = Math.ceil(size.width * part), height = Math.ceil(size.height * part);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const scale = Math.hypot(matrix[0], matrix[1]);
    const level = this.levels.for(scale * part);
    const [a, b, c, d, e, f] = matrix, { rows, columns } = this.levels.list[0];
    const x = 2 / size.width, y = -2 / size.height;
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT); // black
    gl.bindTexture(gl.TEXTURE_2D, this.texture(level));
    gl.uniform1i(at.film, 0);
    gl.uniformMatrix3fv(at.onto, false, [a * columns * x, b * columns * y, 0, c * rows * x, d * rows * y, 0, e * x - 1, f * y + 1, 1]);
    gl.uniform2f(at.ends, window.low, 1 / (window.high - window.low));
    gl.uniform1i(at.inverted, inverted ? 1 : 0);
    gl.uniform1i(at.smoothly, Number.isInteger(scale) || moving ? 0 : 1);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
}
