import { show, empty } from "./dom.js";
export function mapView(main) { show(main, empty("Map")); }
