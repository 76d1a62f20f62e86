import { randomInt } from "node:crypto";

/** What `--name` takes, as Docker has it. */
export const INSTANCE_NAME: RegExp = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/;

const ADJECTIVES =
  "able airy amber apt arch bold brave brisk calm candid clever cosy crisp deft eager early even fair fleet fond frank free fresh gentle glad grand hardy honest humble jolly keen kind lively loyal lucid mellow merry mild modest neat nimble noble patient plain polite proud quick quiet rapid ready sharp shrewd silent smart snug sober solid steady still stout strong sturdy subtle sunny swift tidy upbeat vivid warm wise witty zesty".split(
    " ",
  );

const NOUNS =
  "alder anchor aspen badger bastion beacon birch bridge brook canyon castle cedar citadel cliff comet coral cove crane delta dune falcon fern fjord forest fort garden glade grove harbor haven hawk heron hollow island ivy juniper keep lagoon lantern larch ledge linden lodge lynx maple marsh meadow mesa mole moor oak orchard otter owl palisade pine pond quarry rampart raven reef ridge river rook rowan spruce tower trench turret vale vault walnut willow wren".split(
    " ",
  );

/** A name for an instance nobody named: `adjective_noun`, with a number once those run out. */
export function generateName(taken: ReadonlySet<string>): string {
  for (let attempt = 0; ; attempt++) {
    const base = `${ADJECTIVES[randomInt(ADJECTIVES.length)]}_${NOUNS[randomInt(NOUNS.length)]}`;
    const name = attempt < 8 ? base : `${base}${randomInt(10 ** Math.min(9, attempt - 6))}`;
    if (!taken.has(name)) return name;
  }
}
