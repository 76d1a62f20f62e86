import { parentPort, workerData } from "node:worker_threads";
import { auditVerify } from "./audit-verify.ts";

// A thread of its own for one check of the log; its answer is the report.
parentPort?.postMessage(auditVerify(String(workerData)));
