// Two ways to draw many points: WebGL, and a raster in memory where there is no WebGL or only a slow emulation of it.

import { context } from "./theme.js";

/**
 * @typedef {object} View
 * @property {number} x Of the middle, in data units
 * @property {number} y
 * @property {number} scale Pixels for a data unit
 * @property {number} width CSS pixels
 * @property {number} height
 * @property {number} ratio Device pixels for a CSS pixel
 * @property {number} size Diameter of a point, CSS pixels
 */

/** A colour of the table as one 32-bit pixel. @param {number[]} rgb @param {number} [alpha] */
export const pixel = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** Where the pixels of a disc lie: those fully inside, and those of its rim. @param {number} size Diameter @param {number} width Of the image */
function disc(size, width) {
  const core = [], rim = [], r = size / 2, reach = Math.min(10, Math.ceil(r));
  for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) {
    const d = Math.hypot(dx, dy);
    if (d <= Math.max(0, r - 0.45)) core.push(dy * width + dx);
    else if (d <= r + 0.25) rim.push(dy * width + dx);
  }
  return [Int32Array.from(core), Int32Array.from(rim)];
}

/** Draws into an image by hand: dimmed points first, then those selected. Fast without a GPU. */
export class Raster {
  /** @param {HTMLCanvasElement} canvas @param {Float32Array} xs @param {Float32Array} ys */
  constructor(canvas, xs, ys) {
    (this.canvas = canvas), (this.xs = xs), (this.ys = ys);
    this.ctx = context(canvas);
    this.name = "raster";
    this.places = new Int32Array(xs.length);
  }

  /** Where each point falls, again only when the view has changed. */
  _project(v) {
    const w = Math.round(v.width * v.ratio), hh = Math.round(v.height * v.ratio), key = `${v.x} ${v.y} ${v.scale} ${w} ${hh}`;
    if (key === this.projected) return;
    const { xs, ys, places } = this, s = v.scale * v.ratio, ox = w / 2 - v.x * s, oy = hh / 2 + v.y * s, edge = 12;
    for (let i = 0; i < places.length; i++) {
      const px = (xs[i] * s + ox) | 0, py = (oy - ys[i] * s) | 0;
      places[i] = px >= edge && py >= edge && px < w - edge && py < hh - edge && xs[i] === xs[i] && ys[i] === ys[i] ? py * w + px : -1;
    }
    this.projected = key;
    if (this.w !== w || this.hh !== hh) {
      (this.canvas.width = w), (this.canvas.height = hh);
      (this.w = w), (this.hh = hh);
      this.image = this.ctx.createImageData(w, hh);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
  }

  /**
   * @param {View} v @param {Uint8Array} codes Colour of each point @param {Uint32Array} colours @param {number} dim Pixel of what is not selected
   * @param {Uint8Array|null} mask
   */
  draw(v, codes, colours, dim, mask) {
    this._project(v);
    const { places, pixels, w } = this, n = places.length, [core, rim] = disc(v.size * v.ratio, w), m = core.length, soft = rim.length;
    pixels.fill(0);
    if (mask) for (let i = 0; i < n; i++) {
      const at = places[i];
      if (at < 0 || mask[i]) continue;
      for (let k = 0; k < m; k++) pixels[at + core[k]] = dim;
    }
    for (let i = 0; i < n; i++) {
      const at = places[i];
      if (at < 0 || (mask && !mask[i])) continue;
      const colour = colours[codes[i]];
      for (let k = 0; k < m; k++) pixels[at + core[k]] = colour;
      const half = ((colour & 0xffffff) | 0x80000000) >>> 0;
      for (let k = 0; k < soft; k++) if (!pixels[at + rim[k]]) pixels[at + rim[k]] = half;
    }
    this.ctx.putImageData(this.image, 0, 0);
  }

  destroy() {}
}

const VERTEX = `attribute vec2 at; attribute float code; attribute float on; uniform vec4 view; uniform mediump float size; uniform float pass; uniform sampler2D palette; uniform vec4 dim; varying vec4 colour;
void main() {
  bool skip = pass < 0.5 ? on > 0.5 : on < 0.5;
  gl_Position = skip || at.x != at.x || at.y != at.y ? vec4(2., 2., 2., 1.) : vec4((at - view.xy) * view.zw, 0., 1.);
  gl_PointSize = size;
  colour = pass < 0.5 ? dim : texture2D(palette, vec2((code + .5) / 256., .5));
}`;
const FRAGMENT = `precision mediump float; varying vec4 colour; uniform mediump float size;
void main() { vec2 d = gl_PointCoord - .5; float a = size < 3. ? 1. : 1. - smoothstep(.5 - 1.2 / size, .5, length(d)); gl_FragColor = vec4(colour.rgb, 1.) * colour.a * a; }`;

/** Draws with WebGL; throws where there is none. */
export class Points {
  /** @param {HTMLCanvasElement} canvas @param {Float32Array} xs @param {Float32Array} ys @param {boolean} [evenSlow] */
  constructor(canvas, xs, ys, evenSlow = false) {
    const gl = canvas.getContext("webgl", { antialias: false, alpha: true, premultipliedAlpha: true, preserveDrawingBuffer: true, failIfMajorPerformanceCaveat: !evenSlow });
    if (!gl) throw new Error("no WebGL");
    (this.canvas = canvas), (this.gl = gl), (this.n = xs.length);
    this.name = "webgl";
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) ?? "WebGL");
    gl.useProgram(program);
    this.at = Object.fromEntries(["view", "size", "pass", "palette", "dim"].map((u) => [u, gl.getUniformLocation(program, u)]));
    const both = new Float32Array(2 * this.n);
    for (let i = 0; i < this.n; i++) (both[2 * i] = xs[i]), (both[2 * i + 1] = ys[i]);
    this._buffer(program, "at", 2, gl.FLOAT, both);
    this.codes = this._buffer(program, "code", 1, gl.UNSIGNED_BYTE, new Uint8Array(this.n));
    this.on = this._buffer(program, "on", 1, gl.UNSIGNED_BYTE, new Uint8Array(this.n).fill(1));
    this.all = true;
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const p of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, p, gl.NEAREST);
    for (const p of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, p, gl.CLAMP_TO_EDGE);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  _buffer(program, name, size, type, data) {
    const { gl } = this, buffer = gl.createBuffer(), place = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type, false, 0, 0);
    return buffer;
  }

  _fill(buffer, data) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, data);
  }

  /** As `Raster.draw`. */
  draw(v, codes, colours, dim, mask) {
    const { gl, canvas, at, n } = this, w = Math.round(v.width * v.ratio), hh = Math.round(v.height * v.ratio);
    if (canvas.width !== w || canvas.height !== hh) (canvas.width = w), (canvas.height = hh);
    gl.viewport(0, 0, w, hh);
    if (codes !== this.coded) this._fill(this.codes, (this.coded = codes));
    if (mask) this._fill(this.on, mask);
    else if (!this.all) this._fill(this.on, new Uint8Array(n).fill(1));
    this.all = !mask;
    const texels = new Uint8Array(1024);
    texels.set(new Uint8Array(colours.buffer, 0, Math.min(1024, colours.byteLength)));
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, texels);
    gl.uniform4f(at.view, v.x, v.y, (2 * v.scale) / v.width, (2 * v.scale) / v.height);
    gl.uniform1f(at.size, Math.max(1, v.size * v.ratio));
    gl.uniform4f(at.dim, (dim & 255) / 255, ((dim >> 8) & 255) / 255, ((dim >> 16) & 255) / 255, (dim >>> 24) / 255);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (mask) gl.uniform1f(at.pass, 0), gl.drawArrays(gl.POINTS, 0, n);
    gl.uniform1f(at.pass, 1);
    gl.drawArrays(gl.POINTS, 0, n);
  }

  destroy() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

/**
 * The best painter there is: WebGL on a GPU, the raster otherwise. An emulated GPU takes longer for a million points than the raster does.
 * @param {() => HTMLCanvasElement} fresh Puts a new canvas in place, since a canvas has one kind of context for life
 * @param {"webgl"|"raster"|""} [forced]
 */
export function makePainter(fresh, xs, ys, forced = "") {
  if (forced !== "raster") {
    try {
      const painter = new Points(fresh(), xs, ys, forced === "webgl");
      const info = painter.gl.getExtension("WEBGL_debug_renderer_info"), who = info ? String(painter.gl.getParameter(info.UNMASKED_RENDERER_WEBGL)) : "";
      if (forced === "webgl" || !/swiftshader|llvmpipe|software|basic render/i.test(who)) return painter;
      painter.destroy();
    } catch {
      // the raster needs nothing
    }
  }
  return new Raster(fresh(), xs, ys);
}
