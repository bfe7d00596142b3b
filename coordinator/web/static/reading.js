// Pages that one reads, and that do not follow what happens: they tell how long ago things were.

import { keepTellingTimes } from "./times.js";

keepTellingTimes();
