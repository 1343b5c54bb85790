import { LineChart, MapChart } from "echarts/charts";
import { GridComponent, LegendComponent, VisualMapComponent } from "echarts/components";
import { type EChartsType, init, registerMap, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import outlines from "china-outlines/map/json/china.json";
import { hundredths } from "./money";
import { outline } from "./names";
import type { Sales, Window } from "./types";

use([LineChart, MapChart, GridComponent, LegendComponent, VisualMapComponent, CanvasRenderer]);
registerMap("china", outlines as never);

/** A colour of the theme in force. */
const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (value: number) =>
  Math.abs(value) < 1e15 ? new Intl.NumberFormat("en", { notation: "compact" }).format(value) : value.toExponential(1);
/** Text of charts grows with the page's, which is larger on a wall. */
const small = () => Math.round(parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.78);
const clock = (ms: number) => new Date(ms).toLocaleTimeString("en-GB");
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Draws in a box when the box has a size, and again when that changes. */
class Chart {
  protected readonly chart: EChartsType;
  constructor(protected readonly box: HTMLElement) {
    this.chart = init(box, null, { renderer: "canvas" });
    // A hidden box has no size, and nothing to draw in.
    new ResizeObserver(() => box.clientWidth > 0 && box.clientHeight > 0 && this.chart.resize()).observe(box);
  }
}

export class ChinaMap extends Chart {
  private rows = new Map<string, Sales>();

  constructor(box: HTMLElement, hover: (row: Sales | null, outline: string) => void) {
    super(box);
    this.chart.on("mouseover", (event) => hover(this.rows.get(event.name) ?? null, event.name));
  }

  draw(sales: Sales[]): void {
    this.rows = new Map();
    for (const row of sales) {
      const name = outline(row.province);
      if (name) this.rows.set(name, row);
    }
    const data = [...this.rows].map(([name, row]) => ({ name, value: Number(hundredths(row.gmv)) / 100 }));
    // Sales are skewed: on a root scale the small provinces can still be told apart.
    const scaled = data.map(({ name, value }) => ({ name, value: Math.sqrt(Math.max(0, value)) }));
    const most = Math.max(1, ...scaled.map((item) => item.value));
    this.chart.setOption({
      animation: !still,
      animationDurationUpdate: 300,
      visualMap: { show: false, min: 0, max: most, inRange: { color: [colour("--map-low"), colour("--map-mid"), colour("--map-high")] } },
      series: [
        {
          type: "map",
          map: "china",
          roam: false,
          selectedMode: false,
          layoutCenter: ["50%", "52%"],
          layoutSize: this.box.clientWidth > this.box.clientHeight * 1.25 ? "118%" : "98%",
          data: scaled,
          itemStyle: { areaColor: colour("--map-none"), borderColor: colour("--map-line"), borderWidth: 0.8 },
          emphasis: { label: { show: false }, itemStyle: { areaColor: colour("--accent") } },
        },
      ],
    });
  }
}

const axis = () => ({
  axisLine: { lineStyle: { color: colour("--line") } },
  axisLabel: { color: colour("--soft"), hideOverlap: true, fontSize: small() },
  splitLine: { lineStyle: { color: colour("--line") } },
});

export class Seconds extends Chart {
  draw(windows: Window[], end: number | null): void {
    const last = end ?? windows.at(-1)?.start ?? Date.now();
    this.chart.setOption({
      animation: false,
      grid: { left: 8, right: 12, top: 12, bottom: 4, containLabel: true },
      xAxis: {
        type: "time",
        min: last - 299_000,
        max: last,
        ...axis(),
        splitNumber: 4,
        splitLine: { show: false },
        axisLabel: { ...axis().axisLabel, formatter: clock },
      },
      yAxis: { type: "value", splitNumber: 3, ...axis(), axisLabel: { ...axis().axisLabel, formatter: short } },
      series: [
        {
          type: "line",
          showSymbol: true,
          showAllSymbol: true,
          lineStyle: { color: colour("--accent"), width: 2 },
          itemStyle: { color: colour("--revised") },
          areaStyle: { color: colour("--accent"), opacity: 0.18 },
          data: windows.map((window) => ({
            value: [window.start, Number(hundredths(window.gmv)) / 100],
            symbol: window.revision > 0 ? "diamond" : "none",
            symbolSize: 7,
          })),
        },
      ],
    });
  }
}

export interface Line {
  name: string;
  points: [number, number][];
  /** Drawn over the others, which stay visible beneath. */
  dashed?: boolean;
}

export class Lines extends Chart {
  draw(lines: Line[]): void {
    const last = lines[0]?.points.at(-1)?.[0] ?? 0;
    const colours = ["--accent", "--second", "--revised", "--third"].map(colour);
    this.chart.setOption({
      animation: false,
      color: colours,
      legend: { top: 0, left: 8, itemWidth: 14, icon: "roundRect", itemHeight: 4, textStyle: { color: colour("--text"), fontSize: small() } },
      // A narrow box breaks the legend into two lines.
      grid: { left: 8, right: 12, top: this.box.clientWidth < 430 && lines.length > 3 ? 62 : 40, bottom: 4, containLabel: true },
      xAxis: {
        type: "time",
        min: last - 299_000,
        max: last,
        ...axis(),
        splitNumber: 4,
        splitLine: { show: false },
        axisLabel: { ...axis().axisLabel, formatter: clock },
      },
      yAxis: { type: "value", min: 0, minInterval: 1, splitNumber: 3, ...axis(), axisLabel: { ...axis().axisLabel, formatter: short } },
      series: lines.map((line) => ({ type: "line", name: line.name, showSymbol: false, z: line.dashed ? 3 : 2, lineStyle: { width: 2, type: line.dashed ? "dashed" : "solid" }, data: line.points })),
    });
  }
}
