import type { CollateralRole } from "./piece.ts";

/** Where collateral comes from; every service can be a mirror of one's own. */
export interface CollateralServices {
  /** Intel's PCS or a PCCS, without the path; default Intel's. */
  readonly pcs?: string;
  /** AMD's KDS; default AMD's. */
  readonly kds?: string;
  /** Hygon's certificate service; default Hygon's. */
  readonly hygon?: string;
}

/** One thing to fetch. This library opens no socket: whoever does saves the answer under `file`. */
export interface CollateralRequest {
  /** What was missing, as the verdict names it. */
  readonly missing: string;
  readonly url: string;
  readonly role: CollateralRole;
  /** Name to save the body under in a collateral directory. */
  readonly file: string;
  /** How the body is written. */
  readonly form: "binary" | "hex" | "json" | "pem";
  /** Response headers that hold a further file, percent-encoded PEM, and the name to save it under. */
  readonly headers: Readonly<Record<string, string>>;
}

const INTEL = "https://api.trustedservices.intel.com";
const INTEL_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
const AMD = "https://kdsintf.amd.com";
const HYGON = "https://cert.hygon.cn";

/** What to fetch for what a verdict found missing, and what of it no service offers. */
export function collateralRequests(
  missing: readonly string[],
  services: CollateralServices = {},
): { readonly requests: readonly CollateralRequest[]; readonly unavailable: readonly string[] } {
  const requests = new Map<string, CollateralRequest>();
  const unavailable: string[] = [];
  for (const what of new Set(missing)) {
    const found = requestsFor(what, services);
    if (found.length === 0) unavailable.push(what);
    for (const request of found) if (!requests.has(request.url)) requests.set(request.url, request);
  }
  return { requests: [...requests.values()], unavailable };
}

function requestsFor(missing: string, services: CollateralServices): CollateralRequest[] {
  const pcs = (services.pcs ?? INTEL).replace(/\/+$/, "");
  const one = (
    url: string,
    role: CollateralRole,
    file: string,
    form: CollateralRequest["form"],
    headers: Readonly<Record<string, string>> = {},
  ): CollateralRequest[] => [{ missing, url, role, file, form, headers }];

  const tcb = /^tcb-info for FMSPC ([0-9A-Fa-f]{12}) \((SGX|TDX)\)$/.exec(missing);
  if (tcb !== null) {
    const [, fmspc = "", tee = ""] = tcb;
    const path = `/${tee.toLowerCase()}/certification/v4/tcb?fmspc=${fmspc.toUpperCase()}`;
    return one(
      `${pcs}${path}`,
      "tcb_info",
      `tcb_info_${tee.toLowerCase()}_${fmspc.toLowerCase()}.json`,
      "json",
      {
        "TCB-Info-Issuer-Chain": "tcb_info_chain.pem",
      },
    );
  }
  const qe = /^qe identity \((QE|TD_QE)\)$/.exec(missing);
  if (qe !== null) {
    const tee = qe[1] === "TD_QE" ? "tdx" : "sgx";
    return one(
      `${pcs}/${tee}/certification/v4/qe/identity`,
      "qe_identity",
      `qe_identity_${tee}.json`,
      "json",
      {
        "SGX-Enclave-Identity-Issuer-Chain": "tcb_info_chain.pem",
      },
    );
  }
  const pck = /^crl of CN=Intel SGX PCK (Platform|Processor) CA\b/.exec(missing);
  if (pck !== null) {
    const ca = (pck[1] ?? "").toLowerCase();
    const url = `${pcs}/sgx/certification/v4/pckcrl?ca=${ca}&encoding=der`;
    return one(url, "pck_crl", `pck_crl_${ca}.der`, "binary", {
      "SGX-PCK-CRL-Issuer-Chain": `pck_crl_chain_${ca}.pem`,
    });
  }
  if (/^crl of CN=Intel SGX Root CA\b/.test(missing)) {
    // Intel publishes this one as a file; a PCCS gives it as hex digits.
    return services.pcs === undefined
      ? one(INTEL_ROOT_CRL, "root_crl", "root_crl.der", "binary")
      : one(`${pcs}/sgx/certification/v4/rootcacrl`, "root_crl", "root_crl.der", "hex");
  }
  return kdsRequests(missing, services, one);
}

type One = (
  url: string,
  role: CollateralRole,
  file: string,
  form: CollateralRequest["form"],
) => CollateralRequest[];

function kdsRequests(missing: string, services: CollateralServices, one: One): CollateralRequest[] {
  const kds = (services.kds ?? AMD).replace(/\/+$/, "");
  const vcek =
    /^vcek of (\w+), chip ([0-9a-f]+), at (?:fmc (\d+), )?bootloader (\d+), tee (\d+), snp (\d+), microcode (\d+)$/.exec(
      missing,
    );
  if (vcek !== null) {
    const [, product = "", chip = "", fmc, bootloader, tee, snp, microcode] = vcek;
    // A masked chip id is all zeros; no service knows a key for it.
    if (/^0*$/.test(chip)) return [];
    const id = product === "Turin" ? chip.slice(0, 16) : chip;
    const two = (n: string | undefined): string => (n ?? "0").padStart(2, "0");
    const query = [
      ...(fmc === undefined ? [] : [`fmcSPL=${two(fmc)}`]),
      `blSPL=${two(bootloader)}`,
      `teeSPL=${two(tee)}`,
      `snpSPL=${two(snp)}`,
      `ucodeSPL=${two(microcode)}`,
    ].join("&");
    return [
      ...one(
        `${kds}/vcek/v1/${product}/${id}?${query}`,
        "vek",
        `vcek_${id.slice(0, 16)}_${microcode}.der`,
        "binary",
      ),
      ...one(`${kds}/vcek/v1/${product}/cert_chain`, "ca", `cert_chain_${product.toLowerCase()}.pem`, "pem"),
    ];
  }
  const crl = /^crl of .*CN=ARK-(\w+)/.exec(missing);
  if (crl !== null) {
    return one(`${kds}/vcek/v1/${crl[1]}/crl`, "crl", `crl_${(crl[1] ?? "").toLowerCase()}.der`, "binary");
  }
  const hygon = /^hsk and cek certificates of chip ([0-9A-Za-z]{1,64})$/.exec(missing);
  if (hygon !== null) {
    const base = (services.hygon ?? HYGON).replace(/\/+$/, "");
    return one(`${base}/hsk_cek?snumber=${hygon[1]}`, "hsk_cek", `hsk_cek_${hygon[1]}.cert`, "binary");
  }
  return [];
}
