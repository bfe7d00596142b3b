// The page of a coordinator without a project: it reloads as the project's page once there is one.

import { follow } from "./feed.js";

const since = document.getElementById("waiting").dataset.since;
follow(since, ["project_created"], () => location.reload(), () => location.reload());
