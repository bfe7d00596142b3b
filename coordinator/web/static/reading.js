// Pages without live updates: only their times are kept current.

import { keepTellingTimes } from "./times.js";

keepTellingTimes();
