// Reads an event into the generated types and writes it again; writes a request whose optional fields are null.
import { MigrationFailed } from "./messages/MigrationFailed";
import { MigrationRequest } from "./messages/MigrationRequest";
import { MigrationSucceeded } from "./messages/MigrationSucceeded";
import { Task } from "./messages/Task";

export function roundTrip(line: string): string {
  const event = "reason" in JSON.parse(line) ? MigrationFailed.unmarshal(line) : MigrationSucceeded.unmarshal(line);
  const outcome: string = event instanceof MigrationFailed ? event.reason : event.instanceId;
  const taskName: string | null = event.reservedName;
  if (outcome === "" || taskName === "") throw new Error(`the event has no outcome: ${line}`);
  return event.marshal();
}

export function request(): string {
  const task = new Task({
    reservedName: "ts",
    description: null,
    vpcId: "v",
    subnetId: "s",
    securityGroupId: "g",
  });
  return new MigrationRequest({ requestId: null, projectId: "p", region: null, notAfter: null, task }).marshal();
}
