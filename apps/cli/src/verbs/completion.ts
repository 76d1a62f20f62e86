import { ShelterError } from "@shelter/base";
import type { Command } from "commander";

interface Level {
  readonly path: string;
  readonly words: readonly string[];
}

function levels(command: Command, path: readonly string[]): Level[] {
  const words = [
    ...command.commands.map((c) => c.name()),
    ...command.options.flatMap((o) => (o.long ? [o.long] : [])),
  ];
  return [
    { path: path.join(" "), words },
    ...command.commands.flatMap((c) => levels(c, [...path, c.name()])),
  ];
}

/** Verbs whose first arguments are sealed images, and those whose are instances. */
const IMAGES = ["run", "measure", "inspect", "tag", "rmi"];
const INSTANCES = ["start", "exec", "attach", "logs", "status", "wait", "stop", "kill", "rm"];

/** Prints a completion script for a shell; names of images and instances are asked for at completion time. */
export function completion(shell: string, shelter: Command): void {
  const all = levels(shelter, []);
  const bash = `_shelter() {
  local cur=\${COMP_WORDS[COMP_CWORD]} path= w words=
  for w in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do case $w in -*) ;; *) case "$path $w" in
${all
  .filter((l) => l.path !== "")
  .map((l) => `    " ${l.path}"|"${l.path}") path="${l.path}" ;;`)
  .join("\n")}
    *) [ -n "$path" ] && break ;; esac ;; esac; done
  case $path in
${all.map((l) => `    "${l.path}") words="${l.words.join(" ")}" ;;`).join("\n")}
  esac
  case $path in
    ${IMAGES.join("|")}) words="$words $(shelter images --json 2>/dev/null | grep -o '"[^"]*:[^"]*"' | tr -d '"' | grep -v '^sha256:')" ;;
    ${INSTANCES.join("|")}) words="$words $(shelter ps -a --json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d'"' -f4)" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  case $path in build|attest|"broker secret set"|"broker reference set") COMPREPLY+=($(compgen -f -- "$cur")) ;; esac
}
complete -o default -F _shelter shelter
`;
  const scripts: Readonly<Record<string, string>> = {
    bash,
    zsh: `autoload -U +X bashcompinit && bashcompinit\n${bash}`,
    fish: all
      .flatMap((l) => {
        const seen =
          l.path === "" ? "__fish_use_subcommand" : `__fish_seen_subcommand_from ${l.path.split(" ").at(-1)}`;
        return l.words.map((w) =>
          w.startsWith("--")
            ? `complete -c shelter -n "${seen}" -l ${w.slice(2)}`
            : `complete -c shelter -f -n "${seen}" -a ${w}`,
        );
      })
      .join("\n")
      .concat("\n"),
  };
  const script = scripts[shell];
  if (script === undefined) {
    throw new ShelterError("USAGE", "usage", `no completion for ${JSON.stringify(shell)}`, {
      hint: "use bash, zsh or fish",
    });
  }
  process.stdout.write(script);
}
