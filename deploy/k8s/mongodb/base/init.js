// Brings a replica set to its intended state: initiated, with every member, with the service's users.
// Each step looks first at what is there, so it can run at any time. It authenticates with the
// keyfile as the members do among themselves: before the first user exists, nobody else can.
//
//   MONGODB_HOSTS  host:port of every member, separated by commas
//   SECRETS_DIR    holds keyfile, root-password, portfolio-password and backup-password

const fs = require("fs");
const hosts = process.env.MONGODB_HOSTS.split(",");
const secret = (name) => fs.readFileSync(`${process.env.SECRETS_DIR}/${name}`, "utf8").trim();
const deadline = Date.now() + 5 * 60 * 1000;

function connect(uri) {
  const mongo = new Mongo(uri);
  mongo.getDB("local").auth("__system", secret("keyfile"));
  return mongo.getDB("admin");
}

function untilDeadline(what, attempt) {
  for (;;) {
    try {
      // Not "return attempt()": mongosh would not catch what that throws.
      const result = attempt();
      return result;
    } catch (error) {
      if (Date.now() > deadline) throw new Error(`${what}: ${error.message}`);
      sleep(1000);
    }
  }
}

function isInitiated(admin) {
  try {
    admin.runCommand({ replSetGetStatus: 1 });
    return true;
  } catch (error) {
    if (error.codeName === "NotYetInitialized") return false;
    throw error;
  }
}

const direct = hosts.map((host) =>
  untilDeadline(`no answer from ${host}`, () => connect(`mongodb://${host}/?directConnection=true`)),
);

// Ask every member, not only the first: one that lost its volume must rejoin, not found a second set.
if (!direct.some(isInitiated)) {
  print("initiating the replica set rs0");
  direct[0].runCommand({ replSetInitiate: { _id: "rs0", members: [{ _id: 0, host: hosts[0] }] } });
}

const initiated = direct.filter(isInitiated)[0];
const seeds = initiated.runCommand({ replSetGetConfig: 1 }).config.members.map((m) => m.host);
const admin = untilDeadline("no primary", () => connect(`mongodb://${seeds}/?replicaSet=rs0`));

const missing = () => {
  const { config } = admin.runCommand({ replSetGetConfig: 1 });
  const host = hosts.find((host) => !config.members.some((member) => member.host === host));
  return { config, host };
};
// One member a time: the server accepts one change of voters per reconfiguration.
for (let next = missing(); next.host; next = missing()) {
  print(`adding ${next.host}`);
  const { config, host } = next;
  config.members.push({ _id: Math.max(...config.members.map((m) => m._id)) + 1, host });
  config.version += 1;
  untilDeadline(`cannot add ${host}`, () => admin.runCommand({ replSetReconfig: config }));
}

function ensureUser(database, user, roles, passwordName) {
  const db = admin.getSiblingDB(database);
  const command = db.getUser(user) ? "updateUser" : "createUser";
  print(`${command} ${user}`);
  untilDeadline(command, () => db.runCommand({ [command]: user, pwd: secret(passwordName), roles }));
}

ensureUser("admin", "root", ["root"], "root-password");
ensureUser("admin", "backup", ["backup"], "backup-password");
ensureUser("portfolio", "portfolio", [{ role: "readWrite", db: "portfolio" }], "portfolio-password");
print("the replica set is as intended");
