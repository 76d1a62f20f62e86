/** A processor line with an AMD root key of its own (VCEK certificate specification, product_name). */
export type SnpProduct = "Milan" | "Genoa" | "Turin";

/** Every product line this library has roots for. */
export const SNP_PRODUCTS: readonly SnpProduct[] = ["Milan", "Genoa", "Turin"];

/**
 * The product line of a CPUID family and model (SEV-SNP ABI specification, CPUID_FAM_ID; AMD's key
 * server serves Bergamo and Siena, model a0h, as Genoa).
 */
export function productOfCpuid(family: number, model: number): SnpProduct | undefined {
  if (family === 0x19) {
    if (model <= 0x0f) return "Milan";
    if ((model >= 0x10 && model <= 0x1f) || (model >= 0xa0 && model <= 0xaf)) return "Genoa";
  }
  if (family === 0x1a && model <= 0x1f) return "Turin";
  return undefined;
}

/** The product line of a name such as `Milan-B0` in a certificate extension. */
export function productOfName(name: string): SnpProduct | undefined {
  const line = name.split("-", 1)[0];
  return SNP_PRODUCTS.find((p) => p === line);
}
