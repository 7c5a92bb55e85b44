// The map itself: imagery in tiles, one layer of cells a label, moved and zoomed on one canvas, by mouse, touch or keys.
import { ask } from "./dom.js";

const MAX_TILES = 300;

export class Viewer {
  /** about: what the server says of the map; onCell(row, column, pointed) and onPick(row, column) are told of cells. */
  constructor(canvas, about, { onCell, onPick }) {
    Object.assign(this, { canvas, about, onCell, onPick });
    this.context = canvas.getContext("2d");
    this.layers = new Map();
    this.tiles = new Map();
    this.cell = null;
    this.pointers = new Map();
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(canvas);
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave", "wheel", "keydown"]) canvas.addEventListener(name, (event) => this[name](event), { passive: false });
  }

  close() { this.watch.disconnect(); }

  resize() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    Object.assign(this.canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    if (!this.scale) this.fit(); else this.draw();
  }

  fit() {
    const [high, wide] = this.about.size;
    const { width, height } = this.canvas;
    this.scale = Math.min(width / wide, height / high) * 0.98;
    this.x = (width - wide * this.scale) / 2;
    this.y = (height - high * this.scale) / 2;
    this.draw();
  }

  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const [high, wide] = this.about.size;
    const least = Math.min(this.canvas.width / wide, this.canvas.height / high) * 0.5;
    const scale = Math.min(Math.max(this.scale * factor, least), 16);
    this.x = x - (x - this.x) * scale / this.scale;
    this.y = y - (y - this.y) * scale / this.scale;
    this.scale = scale;
    this.draw();
  }

  draw() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => { this.due = null; this.paint(); });
  }

  paint() {
    const { context, canvas, about } = this;
    const [high, wide] = about.size;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#2b2f33";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const level = Math.max(0, Math.floor(Math.log2(1 / this.scale)));
    const side = about.tile * 2 ** level;
    const from = (offset) => Math.max(0, Math.floor(-offset / this.scale / side));
    const until = (offset, size, whole) => Math.min(Math.ceil(whole / side), Math.ceil((size - offset) / this.scale / side));
    context.imageSmoothingEnabled = this.scale < 2;
    for (let down = from(this.y); down < until(this.y, canvas.height, high); down++) {
      for (let across = from(this.x); across < until(this.x, canvas.width, wide); across++) {
        const image = this.tile(level, across, down);
        if (!image.complete || !image.naturalWidth) continue;
        const right = Math.min((across + 1) * side, wide), bottom = Math.min((down + 1) * side, high);
        context.drawImage(image, this.x + across * side * this.scale, this.y + down * side * this.scale, (right - across * side) * this.scale + 0.5, (bottom - down * side) * this.scale + 0.5);
      }
    }
    context.save();
    context.beginPath();
    context.rect(this.x, this.y, wide * this.scale, high * this.scale);
    context.clip();
    context.imageSmoothingEnabled = false;
    const [rows, columns] = about.cells, [stepDown, stepAcross] = about.step;
    for (const layer of this.layers.values()) {
      if (!layer.image) continue;
      context.globalAlpha = layer.opacity;
      context.drawImage(layer.image, this.x, this.y, columns * stepAcross * this.scale, rows * stepDown * this.scale);
    }
    context.restore();
    context.globalAlpha = 1;
    if (this.cell) {
      context.strokeStyle = "#fff";
      context.lineWidth = 2;
      context.strokeRect(this.x + this.cell[1] * stepAcross * this.scale, this.y + this.cell[0] * stepDown * this.scale, stepAcross * this.scale, stepDown * this.scale);
    }
  }

  tile(level, across, down) {
    const key = `${level}/${across}/${down}`;
    let image = this.tiles.get(key);
    if (!image) {
      image = new Image();
      image.onload = () => this.draw();
      image.src = `/page/maps/${this.about.id}/imagery/${key}`;
      this.tiles.set(key, image);
      if (this.tiles.size > MAX_TILES) this.tiles.delete(this.tiles.keys().next().value);
    }
    return image;
  }

  /** Shows a label, or shows it otherwise: opacity 0 to 1, threshold. */
  async layer(column, { opacity, threshold }) {
    let layer = this.layers.get(column);
    if (!layer) {
      layer = { image: null };
      this.layers.set(column, layer);
      layer.loading = this.scores(column).then((found) => { layer.scores = found; });
    }
    Object.assign(layer, { opacity, threshold });
    await layer.loading;
    if (this.layers.get(column) === layer && layer.painted !== layer.threshold) this.colour(column, layer);
    this.draw();
  }

  hide(column) { this.layers.delete(column); this.draw(); }

  async scores(column) {
    const image = new Image();
    image.src = `/page/maps/${this.about.id}/scores/${column}`;
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  colour(column, layer) {
    const { data, width, height } = layer.scores;
    const colour = this.about.colours[column];
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const out = new ImageData(width, height);
    for (let at = 0; at < data.length; at += 4) {
      const score = (data[at] * 256 + data[at + 1]) / 65535;
      if (data[at + 2] || score <= layer.threshold) continue;
      out.data.set([red, green, blue, 110 + 145 * score], at);
    }
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(out, 0, 0);
    layer.image = canvas;
    layer.painted = layer.threshold;
  }

  at(event) {
    const ratio = this.canvas.width / this.canvas.clientWidth;
    const x = event.offsetX * ratio, y = event.offsetY * ratio;
    const column = Math.floor((x - this.x) / this.scale / this.about.step[1]), row = Math.floor((y - this.y) / this.scale / this.about.step[0]);
    const inside = row >= 0 && column >= 0 && row < this.about.cells[0] && column < this.about.cells[1];
    return { x, y, cell: inside ? [row, column] : null };
  }

  pointerdown(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const { x, y } = this.at(event);
    this.pointers.set(event.pointerId, { x, y });
    this.moved = 0;
  }

  pointermove(event) {
    const { x, y, cell } = this.at(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) { this.point(cell, event); return; }
    if (this.pointers.size === 1) {
      this.x += x - before.x;
      this.y += y - before.y;
    } else {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      this.zoom(Math.hypot(x - other.x, y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y)), other.x, other.y);
    }
    this.moved += Math.hypot(x - before.x, y - before.y);
    this.pointers.set(event.pointerId, { x, y });
    this.draw();
  }

  pointerup(event) {
    const { cell } = this.at(event);
    if (this.pointers.size === 1 && this.moved < 6 && cell) { this.point(cell, event); this.onPick(...cell); }
    this.pointers.delete(event.pointerId);
  }

  pointercancel(event) { this.pointers.delete(event.pointerId); }

  pointerleave() { if (!this.pointers.size) this.point(null); }

  wheel(event) {
    event.preventDefault();
    const { x, y } = this.at(event);
    this.zoom(Math.exp(-event.deltaY * 0.0015), x, y);
  }

  keydown(event) {
    const [rows, columns] = this.about.cells;
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (moves[event.key]) {
      const [row, column] = this.cell ?? [Math.floor(rows / 2), Math.floor(columns / 2)];
      const next = [Math.min(rows - 1, Math.max(0, row + moves[event.key][0])), Math.min(columns - 1, Math.max(0, column + moves[event.key][1]))];
      this.point(next);
      this.follow(next);
    } else if (event.key === "+" || event.key === "=") this.zoom(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter" && this.cell) this.onPick(...this.cell);
    else return;
    event.preventDefault();
  }

  follow([row, column]) {
    const x = this.x + (column + 0.5) * this.about.step[1] * this.scale, y = this.y + (row + 0.5) * this.about.step[0] * this.scale;
    if (x < 0 || x > this.canvas.width) this.x += this.canvas.width / 2 - x;
    if (y < 0 || y > this.canvas.height) this.y += this.canvas.height / 2 - y;
    this.draw();
  }

  point(cell, event) {
    if (String(cell) === String(this.cell)) { if (cell && event) this.onCell(...cell, event); return; }
    this.cell = cell;
    this.draw();
    if (cell) this.onCell(...cell, event); else this.onCell(null);
  }
}

/** The scores of a cell, asked for once. */
export function cells(id) {
  const known = new Map();
  return (row, column) => {
    const key = `${row}/${column}`;
    if (!known.has(key)) known.set(key, ask(`/page/maps/${id}/cells/${key}`).catch((fault) => { known.delete(key); throw fault; }));
    return known.get(key);
  };
}
