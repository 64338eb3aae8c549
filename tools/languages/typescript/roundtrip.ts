// Writes the events of a worker, which the compiler has held to the generated types, then a request full of nulls.
import { events } from "./events";
import { MigrationRequest } from "./messages/MigrationRequest";
import { Task } from "./messages/Task";

for (const event of events) {
  const outcome: string = "reason" in event ? event.reason : event.instance_id;
  const taskName: string | null = event.name;
  if (outcome === "" || taskName === "") throw new Error(`the event has no outcome: ${JSON.stringify(event)}`);
  console.log(JSON.stringify(event));
}

const task: Task = { name: "ts", description: null, vpc_id: "v", subnet_id: "s", security_group_id: "g" };
const request: MigrationRequest = { request_id: null, project_id: "p", region: null, not_after: null, task };
console.log(JSON.stringify(request));
