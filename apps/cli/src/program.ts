import { ShelterError } from "@shelter/base";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { report } from "./failure.ts";

const PLATFORMS = ["auto", "vtpm", "none", "snp", "tdx", "csv"];

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}

/** `256m`, `1GiB`, `536870912`: bytes, as Docker's --memory reads them. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(i?b)?$/i.exec(text.trim());
  const power = ["", "k", "m", "g", "t"].indexOf((match?.[2] ?? "").toLowerCase().replace("b", ""));
  const bytes = match === null ? Number.NaN : Number(match[1]) * 1024 ** power;
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new InvalidArgumentError("expected a size such as 256m, 1GiB or 536870912");
  }
  return bytes;
}

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError("expected a whole number from 1 to 9999");
  return Number(text);
}

function parseSeconds(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError("expected whole seconds");
  return Number(text);
}

/** What a run can be told; the same for `run` and, where it makes sense, for `measure`. */
function machineOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--platform <platform>", "what isolates and vouches for the guest")
        .choices(PLATFORMS)
        .default("auto"),
    )
    .addOption(new Option("--memory <size>", "guest memory (default: the manifest's)").argParser(parseSize))
    .addOption(new Option("--cpus <n>", "virtual CPUs (default: the manifest's)").argParser(parseCount));
}

function brokerOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--broker <url>", "the broker").env("SHELTER_BROKER").default("http://127.0.0.1:8080"),
    )
    .addOption(
      new Option("--admin-token-file <file>", "admin token (default: the local broker's)").env(
        "SHELTER_ADMIN_TOKEN_FILE",
      ),
    )
    .addOption(
      new Option("--ca <file>", "certificate authority of the broker's TLS certificate").env(
        "SHELTER_BROKER_CA",
      ),
    );
}

/** The whole command line. Each verb's code is loaded only when it runs, so that a start costs little. */
export function program(): Command {
  const shelter = new Command("shelter")
    .description("Containers that need not trust their host, on hosts that need not trust their containers.")
    .version("0.1.0", "-V, --version")
    .showHelpAfterError("(shelter COMMAND --help shows its options)")
    .showSuggestionAfterError()
    .configureHelp({ sortSubcommands: false })
    .enablePositionalOptions()
    .exitOverride();

  const image = "Images:";
  const guests = "Guests:";
  const trust = "Trust:";
  const host = "Host:";

  shelter
    .command("build")
    .helpGroup(image)
    .description("seal a container image: kernel, initrd, read-only root and manifest with one identity")
    .argument("<source>", "DIRECTORY, docker-archive:FILE[:NAME], oci:DIR[:TAG] or oci-archive:FILE[:TAG]")
    .option("-f, --file <file>", "what the guest may do (default: ./shelter.yaml if it is there)")
    .option("-t, --tag <name>", "NAME[:TAG]; may be given more than once", collect, [])
    .addOption(
      new Option("-T, --type <shape>", "root on a verity disk, or everything in the initrd")
        .choices(["disk", "initrd"])
        .default("disk"),
    )
    .option("--encrypt <key-uri>", "encrypt the root; kbs:///REPO/TYPE/TAG names its key at the broker")
    .option("--key-file <file>", "with --encrypt: take the key from FILE, or write a new one there")
    .option("--broker <url>", "with --encrypt and no --key-file: make a key and store it at this broker")
    .option("--admin-token-file <file>", "with --broker: the admin token")
    .option("--ca <file>", "with --broker: certificate authority of its TLS certificate")
    .option("-q, --quiet", "print only the identity")
    .option("--json", "print the sealed image as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  docker save redis:7 -o redis.tar && shelter build -t redis:7 docker-archive:redis.tar\n  shelter build -f shelter.yaml -t app ./rootfs",
    )
    .action(async (source, options) => (await import("./verbs/build.ts")).build(source, options));
  shelter
    .command("images")
    .helpGroup(image)
    .description("list sealed images")
    .option("-q, --quiet", "print only identities")
    .option("--json", "print JSON")
    .action(async (options) => (await import("./verbs/images.ts")).images(options));
  shelter
    .command("inspect")
    .helpGroup(image)
    .description("show everything about sealed images or instances")
    .argument("<name...>", "names, identities or instance names")
    .option("--verify", "also read every file of the image and check its digest")
    .option("--json", "print JSON (the default form of inspect)")
    .action(async (names, options) => (await import("./verbs/inspect.ts")).inspect(names, options));
  shelter
    .command("tag")
    .helpGroup(image)
    .description("give a sealed image another name")
    .argument("<image>")
    .argument("<name>", "NAME[:TAG]")
    .option("--json", "print JSON")
    .action(async (from, to, options) => (await import("./verbs/images.ts")).tag(from, to, options));
  shelter
    .command("rmi")
    .helpGroup(image)
    .description("remove names of sealed images, and the image with its last name")
    .argument("<name...>")
    .option("-f, --force", "also when it has other names")
    .option("--json", "print JSON")
    .action(async (names, options) => (await import("./verbs/images.ts")).rmi(names, options));
  shelter
    .command("measure")
    .helpGroup(image)
    .description("predict what an image must measure, before it ever runs")
    .argument("<name>", "sealed image")
    .addOption(new Option("--platform <platform>", "platform").choices(PLATFORMS.slice(1)).default("vtpm"))
    .option(
      "--memory <size>",
      "guest memory; may be given more than once (default: the manifest's)",
      (v, b: number[]) => [...b, parseSize(v)],
      [],
    )
    .option(
      "--cpus <n>",
      "virtual CPUs; may be given more than once (default: the manifest's)",
      (v, b: number[]) => [...b, parseCount(v)],
      [],
    )
    .option(
      "--cpu-model <model>",
      "QEMU's CPU model, for snp; may be given more than once (default: all that are known)",
      collect,
      [],
    )
    .option("--firmware <file>", "firmware image (default, for vtpm only: what `shelter run` uses)")
    .option("--acpi <dir>", "for tdx: QEMU's table-loader, rsdp and tables, without which RTMR0 is unknown")
    .option("--reference", "print reference values, for `shelter broker reference set` or another verifier")
    .addOption(
      new Option("--format <format>", "with --reference: whose form")
        .choices(["shelter", "rvps", "corim"])
        .default("shelter"),
    )
    .option(
      "--diff <file>",
      "say what differs from this evidence; more than once for an event log beside it",
      collect,
      [],
    )
    .option(
      "--workload <name>",
      "with --reference: the workload's name (default: the image's name without its tag)",
    )
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nWith --diff: exit status 0 when the evidence is as predicted, 77 when it differs.",
    )
    .action(async (name, options) => (await import("./verbs/measure.ts")).measure(name, options));

  const run = shelter
    .command("run")
    .helpGroup(guests)
    .description("start a sealed image in a machine of its own and be its terminal")
    .argument("<image>", "NAME[:TAG], identity or a prefix of it")
    .argument("[args...]", "arguments in place of the image's own, where the manifest allows them")
    .option("-d, --detach", "run in the background and print the instance's id")
    .option("-i, --interactive", "pass standard input on")
    .option("-t, --tty", "give the program a terminal")
    .option("--rm", "remove the instance when it ends")
    .option("--name <name>", "name of the instance")
    .option(
      "-e, --env <K=V>",
      "set a variable the manifest allows; K alone passes it on from here",
      collect,
      [],
    )
    .option("-v, --volume <src:dst[:ro]>", "mount a host directory where the manifest allows it", collect, [])
    .option(
      "-p, --publish <[addr:]host:guest>",
      "forward a host port to a port the manifest grants",
      collect,
      [],
    )
    .addOption(
      new Option("--broker <url>", "broker to attest to and to get secrets from").env("SHELTER_BROKER"),
    )
    .addOption(
      new Option("--ca <file>", "certificate authority of the broker's TLS certificate").env(
        "SHELTER_BROKER_CA",
      ),
    )
    .option("--boot-timeout <seconds>", "give the guest this long to come up", parseSeconds)
    .option("--timings", "show at the end where the time went")
    .option("--dry-run", "print the exact QEMU command line and start nothing")
    .option("--json", "with --dry-run, -d or --timings: print JSON")
    .passThroughOptions()
    .addHelpText(
      "after",
      "\nExit status: the program's own; 128+N if signal N ended it; 125 if the machine could not run it,\n77 if something was refused (manifest, broker).\n\nExamples:\n  echo hi | shelter run -i --rm demo cat\n  shelter run -d --name cache -p 6379:6379 redis",
    )
    .action(async (name, args, options) => (await import("./verbs/run.ts")).run(name, args, options));
  machineOptions(run);

  shelter
    .command("start")
    .helpGroup(guests)
    .description("start stopped instances again")
    .argument("<instance...>")
    .option("-a, --attach", "be its terminal")
    .option("-i, --interactive", "pass standard input on")
    .option("--json", "print JSON")
    .action(async (names, options) => (await import("./verbs/start.ts")).start(names, options));
  shelter
    .command("exec")
    .helpGroup(guests)
    .description("run another command in an instance, where the manifest grants it")
    .argument("<instance>")
    .argument("<command...>")
    .option("-i, --interactive", "pass standard input on")
    .option("-t, --tty", "give the command a terminal")
    .option("-e, --env <K=V>", "set a variable", collect, [])
    .passThroughOptions()
    .action(async (name, command, options) => (await import("./verbs/exec.ts")).exec(name, command, options));
  shelter
    .command("attach")
    .helpGroup(guests)
    .description("be the terminal of a running instance")
    .argument("<instance>")
    .option("--no-stdin", "do not pass standard input on")
    .action(async (name, options) => (await import("./verbs/attach.ts")).attach(name, options));
  shelter
    .command("logs")
    .helpGroup(guests)
    .description("show what an instance has written")
    .argument("<instance>")
    .option("-f, --follow", "stay and show what comes")
    .option("-n, --tail <lines>", "only the last lines", parseCount)
    .option("--timestamps", "put the time before each line")
    .option("--json", "one JSON object a piece: time, stream, data")
    .action(async (name, options) => (await import("./verbs/logs.ts")).logs(name, options));
  shelter
    .command("ps")
    .helpGroup(guests)
    .description("list instances")
    .option("-a, --all", "also those that have ended")
    .option("-q, --quiet", "print only ids")
    .option("--json", "print JSON")
    .action(async (options) => (await import("./verbs/ps.ts")).ps(options));
  shelter
    .command("status")
    .helpGroup(guests)
    .description("show an instance's state, platform, verdict and steps")
    .argument("<instance>")
    .option("--json", "print JSON")
    .action(async (name, options) => (await import("./verbs/ps.ts")).status(name, options));
  shelter
    .command("wait")
    .helpGroup(guests)
    .description("wait for instances to end and print their exit codes")
    .argument("<instance...>")
    .option("--json", "print JSON")
    .action(async (names, options) => (await import("./verbs/stop.ts")).wait(names, options));
  shelter
    .command("stop")
    .helpGroup(guests)
    .description("ask instances to end; kill what has not after a while")
    .argument("<instance...>")
    .option("--time <seconds>", "how long to wait before killing", parseSeconds, 10)
    .option("--json", "print JSON")
    .action(async (names, options) => (await import("./verbs/stop.ts")).stop(names, options));
  shelter
    .command("kill")
    .helpGroup(guests)
    .description("send a signal to the main program of instances")
    .argument("<instance...>")
    .option("-s, --signal <signal>", "name or number", "KILL")
    .option("--json", "print JSON")
    .action(async (names, options) => (await import("./verbs/stop.ts")).kill(names, options));
  shelter
    .command("rm")
    .helpGroup(guests)
    .description("remove instances that have ended")
    .argument("<instance...>")
    .option("-f, --force", "also running ones: they are killed")
    .option("--json", "print JSON")
    .action(async (names, options) => (await import("./verbs/stop.ts")).remove(names, options));

  shelter
    .command("serve")
    .helpGroup(trust)
    .description("run the broker: it verifies what guests prove and releases secrets to them")
    .option("--listen <address:port>", "where to listen; other than loopback needs TLS", "127.0.0.1:8080")
    .option("--tls-cert <file>", "certificate chain (PEM)")
    .option("--tls-key <file>", "its private key (PEM)")
    .option("--state <dir>", "the broker's state (default: broker/ in the state directory)")
    .option(
      "--trust-local-tpm",
      "trust the virtual TPMs that this user's `shelter run` makes (for trying things out)",
    )
    .option("--json", "print the address and paths as JSON when ready")
    .action(async (options) => (await import("./verbs/serve.ts")).serve(options));

  const broker = shelter
    .command("broker")
    .helpGroup(trust)
    .description("administer a broker: secrets, reference values, policy, trust anchors, sessions, audit");
  const secret = broker
    .command("secret")
    .description("secrets: their names can be listed, their values never");
  brokerOptions(secret.command("set").description("store a secret from a file or standard input"))
    .argument("<uri>", "kbs:///REPO/TYPE/TAG")
    .argument("[file]", "FILE, or - for standard input", "-")
    .option("--json", "print JSON")
    .action(async (uri, file, options) => (await import("./verbs/broker.ts")).secretSet(uri, file, options));
  brokerOptions(secret.command("list").description("list names and versions"))
    .option("--json", "print JSON")
    .action(async (options) => (await import("./verbs/broker.ts")).secretList(options));
  brokerOptions(secret.command("rm").description("delete a secret"))
    .argument("<uri>")
    .option("--json", "print JSON")
    .action(async (uri, options) => (await import("./verbs/broker.ts")).secretRemove(uri, options));
  const reference = broker.command("reference").description("reference values: what a workload must measure");
  brokerOptions(reference.command("set").description("add values written by `shelter measure --reference`"))
    .argument("[file]", "FILE, or - for standard input", "-")
    .option("--json", "print JSON")
    .action(async (file, options) => (await import("./verbs/broker.ts")).referenceSet(file, options));
  brokerOptions(reference.command("list").description("list workloads and their values"))
    .option("--json", "print JSON")
    .action(async (options) => (await import("./verbs/broker.ts")).referenceList(options));
  brokerOptions(reference.command("rm").description("remove a workload's values, or those of one image"))
    .argument("<workload>")
    .option("--image <identity>", "only the values of this image")
    .option("--json", "print JSON")
    .action(async (workload, options) =>
      (await import("./verbs/broker.ts")).referenceRemove(workload, options),
    );
  const policy = broker.command("policy").description("policy: which workload may have which secrets");
  brokerOptions(policy.command("allow").description("let a workload have secrets"))
    .argument("<workload>")
    .argument("<uri>", "kbs:///REPO/TYPE/TAG, with * for a whole part")
    .option("--json", "print JSON")
    .action(async (workload, uri, options) =>
      (await import("./verbs/broker.ts")).policyAllow(workload, uri, options),
    );
  brokerOptions(policy.command("list").description("list what is allowed; everything else is denied"))
    .option("--json", "print JSON")
    .action(async (options) => (await import("./verbs/broker.ts")).policyList(options));
  brokerOptions(policy.command("revoke").description("take a permission back"))
    .argument("<workload>")
    .argument("<uri>")
    .option("--json", "print JSON")
    .action(async (workload, uri, options) =>
      (await import("./verbs/broker.ts")).policyRevoke(workload, uri, options),
    );
  const anchor = broker
    .command("trust")
    .description("trust anchors: whose TPM endorsement certificates count");
  brokerOptions(anchor.command("add").description("trust a certificate authority (PEM)"))
    .argument("<file>")
    .option("--json", "print JSON")
    .action(async (file, options) => (await import("./verbs/broker.ts")).trustAdd(file, options));
  brokerOptions(anchor.command("list").description("list trust anchors"))
    .option("--json", "print JSON")
    .action(async (options) => (await import("./verbs/broker.ts")).trustList(options));
  const audit = broker.command("audit").description("the append-only, hash-chained log");
  brokerOptions(audit.command("show").description("show entries, newest last"))
    .option("-n, --tail <n>", "how many", parseCount, 50)
    .option("--json", "print JSON lines")
    .action(async (options) => (await import("./verbs/broker.ts")).auditShow(options));
  audit
    .command("verify")
    .description("check the chain offline and name the first broken entry")
    .option("--state <dir>", "the broker's state (default: broker/ in the state directory)")
    .option("--json", "print JSON")
    .action(async (options) => (await import("./verbs/broker.ts")).auditVerify(options));
  brokerOptions(broker.command("sessions").description("list attestation sessions"))
    .option("--json", "print JSON")
    .action(async (options) => (await import("./verbs/broker.ts")).sessions(options));
  brokerOptions(
    broker.command("explain").description("why a session got or did not get its secrets, check by check"),
  )
    .argument("<session>", "session id or a prefix of it")
    .option("--json", "print JSON")
    .action(async (id, options) => (await import("./verbs/broker.ts")).explain(id, options));

  shelter
    .command("attest")
    .helpGroup(trust)
    .description("judge evidence of any platform, check by check, without a network")
    .requiredOption("--evidence <file...>", "evidence: FILE, or ROLE=FILE where a platform has several")
    .option(
      "--platform <platform>",
      "snp, tdx, sgx, csv, tpm, cca, nitro, az-snp-vtpm, az-tdx-vtpm (default: seen from the evidence)",
    )
    .option("--collateral <dir>", "certificates, CRLs and signed JSON the verdict needs")
    .option("--at <time>", "judge at this time (RFC 3339; default: now)")
    .option("--root <file>", "the one trust anchor to use instead of the built-in ones")
    .option("--fetch", "get missing collateral from the vendor into the collateral directory")
    .option("--pcs <url>", "with --fetch: a PCCS instead of Intel's service")
    .option("--kds <url>", "with --fetch: a key distribution service instead of AMD's")
    .option("--expect <file>", "what is expected, as JSON: reportData, measurement, …")
    .option("--print", "show the decoded evidence, field by field")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExit status: 0 accepted, 65 malformed, 69 collateral missing, 76 untrusted, 77 refused, 78 expired.",
    )
    .action(async (options) => (await import("./verbs/attest.ts")).attest(options));

  shelter
    .command("doctor")
    .helpGroup(host)
    .description("tell what this host has: platforms, KVM that truly boots, vsock, firmware, tools")
    .option("--json", "print JSON")
    .action(async (options) => (await import("./verbs/doctor.ts")).doctor(options));
  shelter
    .command("completion")
    .helpGroup(host)
    .description("print a completion script")
    .argument("<shell>", "bash, zsh or fish")
    .action(async (shell) => (await import("./verbs/completion.ts")).completion(shell, shelter));
  return shelter;
}

/** Runs the command line and sets the exit status; never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  // A closed pipe behind us (`shelter images | head -1`) is how a reader says it has enough.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(141);
    throw error;
  });
  try {
    await program().parseAsync(argv as string[]);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : 2;
      return;
    }
    const verb = argv.slice(2);
    const end = verb.indexOf("--");
    process.exitCode = report(error, (end < 0 ? verb : verb.slice(0, end)).includes("--json"));
    if (error instanceof ShelterError && process.env["SHELTER_DEBUG"]) console.error(error.stack);
  }
}
