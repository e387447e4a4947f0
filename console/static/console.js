// The scripts of every page. Each module does one thing; a page that needs more names its own.
import { keepLocalTimes } from "./times.js";
import { follow } from "./live.js";
import { keepDialog } from "./dialog.js";
import { keepTheme } from "./theme.js";
import { keepCopying } from "./copy.js";

// What a viewer has opened, chosen or typed stays when a live region is renewed.
const KEPT = { DETAILS: ["open"], DIALOG: ["open"], INPUT: ["checked", "value"], SELECT: ["value"], OPTION: ["selected"] };
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, element) =>
  element.type === "hidden" || !(KEPT[element.tagName] && KEPT[element.tagName].includes(name));

keepLocalTimes();
keepTheme();
keepDialog();
keepCopying();
follow();
// on a phone the navigation is wider than the window
document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
