export * from "@icws-gateway/client";
export * from "@icws-gateway/client/react";
